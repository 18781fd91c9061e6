"""How a Dagster instance is set up for calibration: written into a home once, read by its web server and daemon."""

from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from b2cal_caf.atomic_files import write_atomically

SETTINGS: dict[str, Any] = {
    # A bucket uses all processors; more at a time would only wait for each other.
    "concurrency": {"runs": {"max_concurrent_runs": 2}},
    # The gates sensor starts again what a dead worker left, and finished steps are kept.
    "run_monitoring": {"enabled": True, "start_timeout_seconds": 180, "max_resume_run_attempts": 0},
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},  # no advertisement over the first page
}
_HEADER = "# Written once by b2cal; change it as you like, it is not written again.\n"


def make_storage(directory: Path) -> None:
    """Make the tables of a Dagster home before two servers do so at the same time, which leaves them with warnings."""
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(directory))) as instance:
        instance.get_runs_count()


def prepare_dagster_home(directory: Path) -> Path:
    """Make the directory and its ``dagster.yaml`` where they are missing; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "dagster.yaml"
    if not file.exists():
        write_atomically(file, (_HEADER + yaml.safe_dump(SETTINGS, sort_keys=False)).encode())
    return directory
