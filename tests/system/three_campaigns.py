"""Three campaigns over one detector, whose calibrations do nothing but what a test wants to go wrong."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from b2cal_assets.definitions import embedded_workshop
from b2cal_assets.instance_settings import prepare_dagster_home
from b2cal_caf.payload_files import write_payload
from b2cal_caf.scripts import read_catalogue
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord
from b2cal_detector.event_files import EVENTS, write_events
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

EXPERIMENTS = (12, 13, 14)
RUNS_OF_AN_EXPERIMENT = 100
BAD, SHORT, LATE, CHANGED = 7, 11, 13, 60
"""Numbers of runs, in every experiment: of bad quality, with one event, and registered when their bucket is closed;
in the last experiment, one whose quality changes later."""
SHORT_UNTIL = 35
"""In the last experiment all runs up to this one are short, which is too little for Gamma."""
_SCRIPT = '''"""Calibration {name}."""
import os
from pathlib import Path

import numpy as np

from b2cal_caf.calibration import Algorithm, Calibration, Collection, DummyCollector, Step
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import AlgResult, SingleIOV

settings = CalibrationSettings(
    name="{name}", expert_username="{name}_expert".lower(), input_data_formats=["raw"],
    input_data_names=["hadron_calib"], input_data_filters={{"hadron_calib": ["hadron_calib", "physics", "Good"]}},
    depends_on={needs}, produced_payloads=["{name}"], expert_config={{"breaks_from": [], "minimum": 1, "version": 1}},
)


class Counting(Algorithm):
    """Saves how many events there were; fails from the runs on that a campaign names, and with too few events."""

    def __init__(self, config):
        self.config = config

    def calibrate(self, execution):
        if list(execution.runs[0]) in self.config["breaks_from"]:
            raise RuntimeError("the fit of {name} did not converge")
        events = sum(execution.data.events.values())
        if events < self.config["minimum"]:
            return AlgResult.not_enough_data
        execution.save("{name}", {{"events": np.array([events]), "version": np.array([self.config["version"]])}})
        return AlgResult.ok


def get_calibrations(input_data, **kwargs):
    files = {{Path(f): ExpRun(iov.exp_low, iov.run_low) for f, iov in input_data["hadron_calib"].items()}}
    asked = kwargs["requested_iov"]
    valid = SingleIOV(apply_iov=IoV(asked.exp_low, asked.run_low, -1, -1))
    collection = Collection(DummyCollector(), files, max_jobs=2)
    return [Calibration("{name}", {{"default": collection}}, [Step(Counting(kwargs["expert_config"]), valid)])]
'''
_VALIDATION = '''"""Validation of {name}."""
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold

settings = ValidationSettings(name="{name}")


def run_validation(job_path, input_data_path, requested_iov, expert_config, **kwargs):
    return [Figure("version", float(expert_config["version"]), Threshold(high_fail=9.0))]
'''
NEEDS: Mapping[str, list[str]] = {"Alpha": [], "Beta": ["Alpha"], "Gamma": []}
_COMMON: Mapping[str, Any] = {
    "catalogue": "small",
    "collect_ahead": False,
    "site": {"max_processes": 1},
}
CAMPAIGNS: Mapping[str, Mapping[str, Any]] = {
    "prompt": {
        "base_tags": ["main"],
        "target_tag": "data_prompt",
        "buckets": {"runs": 34, "late": "next_bucket"},
        "expert_config": {"Beta": {"breaks_from": [[13, 36]]}, "Gamma": {"minimum": 100}},
    },
    "recalibration": {
        "kind": "recalibration",
        "base_tags": ["main"],
        "target_tag": "data_recalibration",
        "calibrations": ["Alpha"],
        "last_run": [12, RUNS_OF_AN_EXPERIMENT],
        "buckets": {"runs": 34, "late": "ignore"},
    },
    "simulation": {
        "kind": "run_dependent_mc",
        "base_tags": ["main"],
        "target_tag": "mc_run_dependent",
        "calibrations": ["Alpha"],
        "first_run": [14, 1],
        "buckets": {"runs": 50, "late": "reopen"},
        "gates": {"auto_sign_off": "manual", "redo": "always", "redo_downstream": "always"},
    },
}


@dataclass(frozen=True, slots=True)
class World:
    """A home with three campaigns, and the runs that will come."""

    home: Home
    records: tuple[RunRecord, ...]

    def arrivals(self, together: int) -> Iterator[list[RunRecord]]:
        """The runs as they come, so many at a time, without the late ones."""
        timely = [record for record in self.records if record.run.run != LATE]
        for start in range(0, len(timely), together):
            yield timely[start : start + together]

    @property
    def late(self) -> list[RunRecord]:
        """The runs that come when their buckets are closed."""
        return [record for record in self.records if record.run.run == LATE]


def write_world(directory: Path) -> World:
    """Lay everything out; no run is registered yet."""
    home = Home(directory).create()
    prepare_dagster_home(home.dagster_home)
    scripts = directory / "scripts"
    scripts.mkdir()
    for name, needs in NEEDS.items():
        (scripts / f"caf_{name.lower()}.py").write_text(_SCRIPT.format(name=name, needs=needs))
        (scripts / f"val_{name.lower()}.py").write_text(_VALIDATION.format(name=name))
    store = FileCampaignStore(home)
    store.save_catalogue("small", read_catalogue(scripts), scripts=scripts)
    for name, more in CAMPAIGNS.items():
        store.save_campaign(yaml.safe_dump({"name": name, **_COMMON, **more}))
    _fill_main(home, directory)
    return World(home, tuple(_records(directory / "data")))


def _fill_main(home: Home, directory: Path) -> None:
    conditions = embedded_workshop(home).conditions
    conditions.create_tag("main")
    file = directory / "nominal.root"
    write_payload(file, "Nominal", {"events": np.array([0])})
    conditions.replace_iovs("main", ["Nominal"], [LocalPayload("Nominal", file, IoV(0, 0, -1, -1))])
    conditions.set_state("main", expected=TagState.OPEN, new=TagState.TESTING)


def _records(directory: Path) -> Iterator[RunRecord]:
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    for place, exp in enumerate(EXPERIMENTS):
        for number in range(1, RUNS_OF_AN_EXPERIMENT + 1):
            started = begin + timedelta(days=30 * place, hours=number)
            run, is_short = ExpRun(exp, number), number == SHORT or (exp == EXPERIMENTS[-1] and number <= SHORT_UNTIL)
            quality = frozenset({"Bad"} if number == BAD else {"Good"})
            times = started, started + timedelta(minutes=5 if is_short else 50)
            file = _data_file(directory, run, 1 if is_short else 20)
            yield RunRecord(run, "physics", "4S", "On", quality, *times, (file,))


def _data_file(directory: Path, run: ExpRun, events: int) -> DataFile:
    path = (directory / f"e{run.exp:04d}" / f"r{run.run:05d}.root").absolute()
    write_events(path, {EVENTS: {"event": np.arange(events, dtype=np.int32)}}, str(run))
    content = path.read_bytes()
    return DataFile(str(path), "hadron_calib", "raw", events, len(content), hashlib.sha256(content).hexdigest())


def changed(record: RunRecord) -> RunRecord:
    """The record after its shifter has looked again."""
    return replace(record, quality=frozenset({"Bad"}))
