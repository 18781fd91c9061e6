"""Prompt latency beside a backfill: how long buckets take to be published with and without a recalibration behind them.

    python benchmarks/prompt_beside_backfill.py                  # 8 buckets each way, about fifteen minutes
    python benchmarks/prompt_beside_backfill.py --rounds 1 --out figures.json

A real `b2cal up` works a prompt campaign, bucket by bucket as their runs arrive. In each round the first two buckets
have the service to themselves; beside the next two a recalibration is at work, whose other buckets are all queued.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from aims import Aim

from b2cal_assets.asset_keys import published_key
from b2cal_assets.bucket_runs import quiet_instance
from b2cal_assets.campaign_assets import CAMPAIGN_TAG
from b2cal_assets.definitions import embedded_workshop
from b2cal_assets.instance_settings import prepare_dagster_home
from b2cal_caf.scripts import read_catalogue
from b2cal_cli.demo_setup import CAMPAIGN_FILE, SCRIPTS, publish_nominal
from b2cal_cli.simulation import Simulation, simulate_runs
from b2cal_core.runs import RunRecord
from resources.campaigns.files import FileCampaignStore
from resources.deployment import registry_address
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry

PROMPT = "prompt"
CALIBRATIONS = ["caf_svd_time", "TOP common T0"]
OLD, NEW = 10, 12
"""Experiments: of the recalibration, and of prompt."""
RUNS_OF_A_BUCKET = 4
PARTS = ("from its last run", "from closing", "machine", "platform")
RATIO = 1.2
_IN_A_ROW = 2
_PATIENCE, _POLL = 900.0, 0.5


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of several buckets."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """The spread of these."""
        return cls(min(seconds), statistics.median(seconds), max(seconds))

    def __str__(self) -> str:
        return f"{self.least:6.1f} {self.median:6.1f} {self.most:6.1f}"


def main() -> None:
    """Measure, print the table and the aim, and write the figures where that is wanted."""
    options = _options()
    print(f"this takes about {max(3, options.rounds * 4)} minutes", file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="b2cal-beside-") as directory:
        alone, beside, backfill = _measured(Path(directory), options.rounds, options.backfill)
    aims = list(_aims(alone, beside))
    print(f"load before {load:.1f}, after {os.getloadavg()[0]:.1f}; {_IN_A_ROW * options.rounds} buckets each way")
    print("seconds                alone: least median most     beside: least median most   ratio of medians")
    for part in PARTS:
        ratio = beside[part].median / alone[part].median
        print(f"{part:<24}   {alone[part]}          {beside[part]}            {ratio:.2f}")
    print(f"Dagster runs of the backfill at the end of each round: {backfill}", *aims, sep="\n")
    if options.out:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load": load}
        parts = {
            name: {part: asdict(spread) for part, spread in found.items()}
            for name, found in (("alone", alone), ("beside", beside))
        }
        text = json.dumps(
            {"machine": machine, "parts": parts, "backfill": backfill, "aims": [aim.to_json() for aim in aims]},
            indent=1,
        )
        options.out.write_text(text + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="of two prompt buckets alone and two beside a backfill")
    parser.add_argument("--backfill", type=int, default=24, help="buckets of each recalibration")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser.parse_args()


def _aims(alone: Mapping[str, Spread], beside: Mapping[str, Spread]) -> Iterator[Aim]:
    ratio = beside["from closing"].median / alone["from closing"].median
    subject = "a bucket closed to published, beside a backfill over alone"
    yield Aim(subject, f"ratio of medians at most {RATIO:g}", ratio, met=ratio <= RATIO)


def _measured(
    directory: Path, rounds: int, size: int
) -> tuple[dict[str, Spread], dict[str, Spread], Sequence[Mapping[str, int]]]:
    home = _home(directory / "home")
    records = _simulated(home, Simulation(1, NEW, 1, 2 * rounds * _IN_A_ROW * RUNS_OF_A_BUCKET, scale=0.5))
    groups = [records[first : first + RUNS_OF_A_BUCKET] for first in range(0, len(records), RUNS_OF_A_BUCKET)]
    _register(home, _simulated(home, Simulation(1, OLD, 1, rounds * size * RUNS_OF_A_BUCKET, scale=0.5)))
    _create(home, PROMPT, {"first_run": [NEW, 1]})
    ends = []
    with _service(home):
        for number in range(rounds):
            here = 2 * number * _IN_A_ROW
            _work_each(home, groups[here : here + _IN_A_ROW])
            with _backfill(home, number, size) as name:
                _work_each(home, groups[here + _IN_A_ROW : here + 2 * _IN_A_ROW])
                ends.append(_states(home, name))
    if not all("QUEUED" in end for end in ends):
        raise RuntimeError(f"a backfill was worked too early, {ends}; repeat this with a larger --backfill")
    found = _latencies(home)
    alone = [bucket for number, bucket in enumerate(found) if not number // _IN_A_ROW % 2]
    beside = [bucket for number, bucket in enumerate(found) if number // _IN_A_ROW % 2]
    return _spreads(alone), _spreads(beside), ends


@contextmanager
def _backfill(home: Home, number: int, size: int) -> Iterator[str]:
    """A recalibration of so many buckets, which none before it had, at work and queued; it ends with the block."""
    name, runs = f"recalibration_{number}", size * RUNS_OF_A_BUCKET
    old = {"first_run": [OLD, 1 + number * runs], "last_run": [OLD, (number + 1) * runs]}
    _create(home, name, {**old, "kind": "recalibration", "target_tag": name})
    _await("a recalibration at work and queued", lambda: {"STARTED", "QUEUED"} <= _states(home, name).keys())
    yield name
    _b2cal(home, "campaign", "pause", name, "--reason", "prompt alone")
    _await("the end of the recalibration", partial(_ends, home, name))
    _b2cal(home, "campaign", "archive", name, "--reason", "prompt alone")


def _ends(home: Home, campaign: str) -> bool:
    """Cancel what waits in the queue; whether nothing is at work."""
    with quiet_instance(home.dagster_home) as instance:
        own = instance.get_runs(dg.RunsFilter(tags={CAMPAIGN_TAG: campaign}))
        for run in own:
            if run.status is dg.DagsterRunStatus.QUEUED:
                instance.report_run_canceled(run)
    return all(run.is_finished for run in own)


def _home(directory: Path) -> Home:
    home = Home(directory).create()
    prepare_dagster_home(home.dagster_home)
    publish_nominal(embedded_workshop(home).conditions, home, "main")
    return home


def _simulated(home: Home, simulation: Simulation) -> Sequence[RunRecord]:
    return simulate_runs(simulation, home.data).records


def _register(home: Home, records: Sequence[RunRecord]) -> None:
    EmbeddedRunRegistry(registry_address(home)).add(records)


def _create(home: Home, name: str, more: Mapping[str, Any]) -> None:
    """A campaign of two calibrations of the reference detector, one after a cDST production, without their validations.

    Few events may fail these by chance, and then a person would have to decide.
    """
    campaign = yaml.safe_load(CAMPAIGN_FILE.read_text())
    campaign |= {"name": name, "calibrations": CALIBRATIONS, **more}
    campaign["buckets"]["runs"] = RUNS_OF_A_BUCKET
    campaign["gates"]["auto_sign_off"] = "none_fail"  # that nothing is validated is worth a warning
    scripts = home.path / "scripts"
    scripts.mkdir(exist_ok=True)
    for script in SCRIPTS.glob("caf_*.py"):
        shutil.copy(script, scripts)
    store = FileCampaignStore(home)
    store.save_catalogue(campaign["catalogue"], read_catalogue(scripts), scripts=scripts)
    store.save_campaign(yaml.safe_dump(campaign))


def _work_each(home: Home, groups: Sequence[Sequence[RunRecord]]) -> None:
    """Register the runs of one bucket after the other, each when the one before is published."""
    for records in groups:
        wanted = _published(home) + 1
        _register(home, records)
        _await(f"bucket with run {records[0].run} published", partial(_has_published, home, wanted))


def _published(home: Home) -> int:
    with quiet_instance(home.dagster_home) as instance:
        return len(instance.get_materialized_partitions(published_key(PROMPT)))


def _has_published(home: Home, wanted: int) -> bool:
    return _published(home) >= wanted


def _states(home: Home, campaign: str) -> Mapping[str, int]:
    """How many Dagster runs of the campaign are in which state."""
    with quiet_instance(home.dagster_home) as instance:
        runs = instance.get_runs(dg.RunsFilter(tags={CAMPAIGN_TAG: campaign}))
    return Counter(run.status.value for run in runs)


def _spreads(found: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    seconds = {
        "from its last run": [bucket["from_last_run"] for bucket in found],
        "from closing": [bucket["from_closing"] for bucket in found],
        **{part: [bucket["shares_since_closing"][part] for bucket in found] for part in ("machine", "platform")},
    }
    return {part: Spread.of(seconds[part]) for part in PARTS}


def _latencies(home: Home) -> Sequence[Mapping[str, Any]]:
    """What the command tells of each prompt bucket, in order."""
    found: Sequence[Mapping[str, Any]] = json.loads(_b2cal(home, "latency", "show", PROMPT, "--json"))["buckets"]
    return found


def _b2cal(home: Home, *args: str) -> str:
    command = [sys.executable, "-m", "b2cal_cli", "--home", str(home.path), *args]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


@contextmanager
def _service(home: Home) -> Iterator[None]:
    """``b2cal up`` on a free port, ended when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "b2cal_cli", "--home", str(home.path), "up", "--port", port]
    with (home.path / "up.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            _await("the service ready", lambda: b"ready:" in (home.path / "up.log").read_bytes())
            yield
        finally:
            process.terminate()


def _await(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {_PATIENCE:g} s")
        time.sleep(_POLL)


if __name__ == "__main__":
    main()
