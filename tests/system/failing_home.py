"""A home in which one bucket is published and another waits to be worked, for tests that make something fail."""

import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from b2cal_assets.definitions import embedded_workshop
from b2cal_cli.demo_setup import CAMPAIGN_FILE, SCRIPTS, publish_nominal
from b2cal_cli.main import main
from b2cal_cli.simulation import Simulation, simulate_runs
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.home import Home

PUBLISHED, OPEN = "e0012r00001-e0012r00003", "e0012r00004-e0012r00006"
CALIBRATIONS = ("caf_svd_time", "TOP common T0")
"""One of the raw stage, one of the cDST stage; neither needs the other, but cDST files need the first."""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class FailingHome:
    """The home, the scripts of its release, and the command line on it."""

    home: Home
    scripts: Path

    def b2cal(self, *args: object, before: Sequence[str] = ()) -> Answer:
        """The command in this process, or in one that the command ``before`` starts."""
        arguments = [*map(str, args), "--home", str(self.home.path)]
        if not before:
            return _in_this_process(arguments)
        command = [*before, sys.executable, "-m", "b2cal_cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    def ok(self, *args: object) -> Answer:
        answer = self.b2cal(*args)
        assert answer.code == 0, answer.err
        return answer

    def work(self, *options: str) -> Answer:
        """Work the open bucket."""
        return self.b2cal("bucket", "run", "prompt", OPEN, *options)

    def change_campaign(self, **fields: Any) -> None:
        """Keep the campaign with other fields."""
        file = self.home.campaigns / "prompt.yaml"
        changed = self.home.path / "changed.yaml"
        changed.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | fields))
        self.ok("campaign", "create", changed)

    def target(self) -> list[tuple[str, str, str]]:
        """Name, md5 and IoV of everything published."""
        conditions = EmbeddedConditionsDB(self.home.conditions_dir)
        links = []
        for link in conditions.list_iovs("prompt_running"):
            payload = conditions.payload(link.name, link.revision)
            assert payload is not None
            links.append((link.name, payload.md5, str(link.iov)))
        return sorted(links)

    def payloads_exist(self, calibration: str) -> bool:
        """Whether the open bucket has payloads of the calibration."""
        status = yaml.safe_load(self.ok("bucket", "status", "prompt", OPEN, "--json").out)
        return any(c["payloads"] for c in status["calibrations"] if c["calibration"] == calibration)

    def is_published(self) -> bool:
        """Whether the open bucket is published by now."""
        return bool(yaml.safe_load(self.ok("bucket", "status", "prompt", OPEN, "--json").out)["published"])

    def copy(self, directory: Path) -> "FailingHome":
        """Another home in the same state, with scripts of its own; its raw data are its own, too."""
        shutil.copytree(self.home.path, directory / "home", symlinks=True)
        shutil.copytree(self.scripts, directory / "scripts")
        other = FailingHome(Home(directory / "home"), directory / "scripts")
        other.ok("catalogue", "import", other.scripts, "--release", "reference")
        workshop = embedded_workshop(other.home)
        workshop.runs.add(simulate_runs(SIMULATION, other.home.data).records)
        return other


def _in_this_process(arguments: list[str]) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
    return Answer(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


SIMULATION = Simulation(seed=1, exp=12, first=1, count=6, scale=0.5)


def prepare(directory: Path) -> FailingHome:
    """The home as it is before anything fails."""
    home = Home(directory / "home").create()
    shutil.copytree(SCRIPTS, directory / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    prepared = FailingHome(home, directory / "scripts")
    workshop = embedded_workshop(home)
    workshop.runs.add(simulate_runs(SIMULATION, home.data).records)
    publish_nominal(workshop.conditions, home, "main")
    prepared.ok("catalogue", "import", prepared.scripts, "--release", "reference")
    campaign = yaml.safe_load(CAMPAIGN_FILE.read_text())
    campaign |= {"calibrations": list(CALIBRATIONS), "buckets": {"runs": 3, "counted": []}}
    campaign["gates"]["auto_sign_off"] = "none_fail"  # few events may warn
    (directory / "campaign.yaml").write_text(yaml.safe_dump(campaign))
    prepared.ok("campaign", "create", directory / "campaign.yaml")
    prepared.ok("bucket", "close", "prompt")
    prepared.ok("bucket", "run", "prompt", PUBLISHED)
    return prepared
