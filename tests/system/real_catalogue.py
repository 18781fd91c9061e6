"""Belle II's prompt calibrations as a campaign: their real settings over calibrations that do nothing.

Every script is in the two-name format. Its collectors read nothing of the files that the settings ask for, its
algorithm saves one number for each payload the settings declare. The runs have what the filters of all scripts ask for.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pprint import pformat
from typing import Any

import numpy as np
import yaml

from b2cal_assets.definitions import embedded_workshop
from b2cal_cli.demo_setup import publish_nominal
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from b2cal_detector.event_files import EVENTS, write_events
from resources.home import Home
from resources.runs.records import write_records

RECORDED = Path(__file__).parents[1] / "data" / "prompt_catalogue.json"
SETTINGS: Mapping[str, Mapping[str, Any]] = json.loads(RECORDED.read_text())
"""Script name, as in basf2, to the fields of its settings."""
RELEASE, CAMPAIGN, TARGET, BASE = "prompt_27", "prompt", "data_prompt", "main"
EXP = 12
UNDECLARED = {
    "CDC Sigma fudge factor": "CDCFudgeFactorsForSigma",
    "Example Simple": "ExampleSimple",
    "Example Complex": "ExampleComplex",
}
"""What those make whose settings declare no payloads; a calibration that makes none has failed."""
_EVENTS = 20
_CALIBRATIONS = '''
from b2cal_caf.calibration import Algorithm, Calibration, Collection, DummyCollector, Execution, InputData, Step
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import AlgResult, SingleIOV


class NoOp(Algorithm):
    """Looks at nothing and is content."""

    def calibrate(self, execution: Execution) -> AlgResult:
        for name in MADE:
            execution.save(name, {"value": np.ones(1)})
        return AlgResult.ok


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:
    files = {
        name: {Path(file): ExpRun(iov.exp_low, iov.run_low) for file, iov in given.items()}
        for name, given in input_data.items()
    }
    collections = {name: Collection(DummyCollector(), given, max_jobs=1) for name, given in files.items() if given}
    asked = kwargs["requested_iov"]
    valid = SingleIOV(apply_iov=IoV(asked.exp_low, asked.run_low, -1, -1))
    return [Calibration(SCRIPT, collections, [Step(NoOp(), valid)])]
'''


def payloads_of(settings: Mapping[str, Any]) -> list[str]:
    """What a script makes."""
    return list(settings["produced_payloads"]) or [UNDECLARED[settings["name"]]]


def write_release(directory: Path) -> Path:
    """The scripts of the release, named as the platform finds them: ``caf_*.py``, examples too."""
    directory.mkdir(parents=True)
    for script, settings in SETTINGS.items():
        name = script if script.startswith("caf_") else f"caf_{script}"
        text = (
            f'"""The settings of {script}, and calibrations that do nothing."""\n\n'
            "from pathlib import Path\nfrom typing import Any\n\nimport numpy as np\n"
            f"{_CALIBRATIONS}\n\nSCRIPT = {name!r}\nMADE = {payloads_of(settings)!r}\n"
            f"settings = CalibrationSettings(**{pformat(dict(settings))})\n"
        )
        (directory / f"{name}.py").write_text(text)
    return directory


GOOD = ("Good", "Good Or Recoverable")
PHYSICS_TAGS = ("bhabha_all_calib", "hadron_calib", "mumu_tight_or_highm_calib", "radmumu_calib")
RUNS: Sequence[tuple[str, str, str, tuple[str, ...], tuple[str, ...]]] = (
    (
        "physics",
        "4S",
        "On",
        (*GOOD, "Good For PXD"),
        (
            *PHYSICS_TAGS,
            *("btocharm_calib", "gamma_gamma_calib", "delayedbhabha_calib", "offip_calib", "cosmic_calib"),
            *("random_calib", "single_gamma_mc"),
        ),
    ),
    ("physics", "Continuum", "On", ("Good Or Recoverable",), PHYSICS_TAGS),
    ("physics", "Scan", "On", GOOD, PHYSICS_TAGS),
    ("physics", "4S", "Off", GOOD, ("hadron_calib",)),
    ("cosmic", "No Beam", "On", GOOD, ("cosmic_calib",)),
    ("beam", "", "On", ("Good Or Recoverable",), ("random_calib",)),
    ("cosmic", "Continuum", "Off", ("Bad For Alignment",), ("cosmic_calib",)),
)
"""Run type, beam energy, magnet, quality and data tags of the runs 1, 2, … of one experiment."""
_SIMULATED = "single_gamma_mc"
"""Comes as mdst from a simulation; everything else comes as raw data, of which the platform makes cDST files."""


def write_runs(directory: Path) -> list[RunRecord]:
    """The runs with one event file for each of their data tags."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    records = []
    for number, (run_type, energy, magnet, quality, tags) in enumerate(RUNS, start=1):
        run, started = ExpRun(EXP, number), begin + timedelta(hours=number)
        record = RunRecord(run, run_type, energy, magnet, frozenset(quality), started, started + timedelta(minutes=40))
        records.append(replace(record, files=tuple(_data_file(directory, run, tag) for tag in tags)))
    return records


def _data_file(directory: Path, run: ExpRun, tag: str) -> DataFile:
    path = (directory / f"r{run.run:05d}" / f"{tag}.root").absolute()
    write_events(path, {EVENTS: {"event": np.arange(_EVENTS, dtype=np.int32)}}, f"{run}, {tag}, no tracks")
    content = path.read_bytes()
    data_format = "mdst" if tag == _SIMULATED else "raw"
    return DataFile(str(path), tag, data_format, _EVENTS, len(content), hashlib.sha256(content).hexdigest())


def b2cal(home: Home, *args: object) -> Any:
    """The answer of a command that must succeed, as JSON."""
    command = [sys.executable, "-m", "b2cal_cli", "--home", str(home.path), *map(str, args), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def prepare_campaign(home: Home) -> None:
    """Constants to start from; the release imported and the campaign created by the commands that a manager uses."""
    publish_nominal(embedded_workshop(home).conditions, home, BASE)
    scripts = write_release(home.path / "release")
    b2cal(home, "catalogue", "import", scripts, "--release", RELEASE)
    campaign = {
        "name": CAMPAIGN,
        "description": "Belle II's prompt calibrations, doing nothing.",
        "catalogue": RELEASE,
        "base_tags": [BASE],
        "target_tag": TARGET,
        "owner": "manager@example.org",
        "collect_ahead": False,
        "gates": {"auto_sign_off": "none_fail"},  # nothing is validated, which is worth a warning
    }
    file = home.path / "campaign.yaml"
    file.write_text(yaml.safe_dump(campaign, sort_keys=False))
    b2cal(home, "campaign", "create", file)


def prepare_bucket(home: Home) -> str:
    """The runs, ingested and closed as one bucket, whose key is returned."""
    feed = home.path / "feed.jsonl"
    write_records(feed, write_runs(home.data))
    b2cal(home, "runs", "ingest", feed)
    (key,) = b2cal(home, "bucket", "close", CAMPAIGN)["buckets"]
    return str(key)
