"""A small campaign and the fakes it is worked with; conditions, registry and sign-offs are the real, embedded ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.workshop import Workshop
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import write_payload
from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.ports import (
    Caf,
    CafObserver,
    CafRequest,
    CafResult,
    CdstProducer,
    CdstRequest,
    CdstResult,
    CollectedSummary,
    RunRegistry,
    ValidationRequest,
)
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord
from b2cal_core.settings import Catalogue
from b2cal_core.verdicts import Figure, Threshold
from resources.campaigns.files import FileCampaignStore
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry
from resources.signoff.embedded import EmbeddedSignOffLog

EXP = 12
BUCKET_1 = Bucket(ExpRun(EXP, 1), ExpRun(EXP, 4))
BUCKET_2 = Bucket(ExpRun(EXP, 5), ExpRun(EXP, 8))
BASE = "base"
TARGET = "prompt_target"


def _script(name: str, stage: str, depends_on: Sequence[str], payloads: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"{name} of the test detector.",
        "expert_username": "ada",
        "subsystem": "cdc",
        "input_data_formats": [stage],
        "input_data_names": ["hadron_calib"],
        "input_data_filters": {"hadron_calib": ["hadron_calib", "physics", "Good"]},
        "depends_on": list(depends_on),
        "expert_config": {"minimum": 100},
        "produced_payloads": list(payloads),
    }


CATALOGUE = {
    "caf_cdc": _script("CDC Tracking", "raw", [], ["CDCTimeZeros"]),
    "caf_svd": _script("SVD time", "raw", ["CDC Tracking"], ["SVDTimes"]),
    "caf_top": _script("TOP T0", "cdst", [], ["TOPCommonT0"]),
    "caf_beam": _script("BeamSpot", "cdst", [], ["BeamSpot"]),
    "caf_ecms": _script("eCMS", "cdst", ["BeamSpot"], ["CollisionEnergy"]),
}

CAMPAIGN = """
name: prompt
catalogue: test
base_tags: [base]
target_tag: prompt_target
buckets: {runs: 4}
owner: manager@example.org
collect_ahead: false
site: {max_processes: 1}
"""


class FakeCaf(Caf):
    """Makes one payload of constant value per declared name, over the whole bucket.

    Args:
        payloads: script file name without suffix to the payload names it makes.
        broken: script to the sentence with which its calibration fails.
        unreachable: scripts whose batch system is down.
        hungry: script to the runs it needs; with fewer its calibration has not enough data.
        values: payload name to its value; 1 where there is none.
        gaps: payload names that lack the first run of the bucket.
        open_ended: payloads are valid for ever, as single-IoV calibrations leave them.
    """

    def __init__(
        self,
        payloads: Mapping[str, Sequence[str]],
        *,
        broken: Mapping[str, str] | None = None,
        unreachable: Sequence[str] = (),
        values: Mapping[str, float] | None = None,
        gaps: Sequence[str] = (),
        open_ended: bool = False,
        hungry: Mapping[str, int] | None = None,
    ) -> None:
        self._open_ended = open_ended
        self.hungry = dict(hungry or {})
        self._payloads, self._broken, self._unreachable = payloads, dict(broken or {}), unreachable
        self._values, self._gaps = dict(values or {}), gaps
        self.requests: list[CafRequest] = []
        self.ahead: list[Path] = []

    def collect_ahead(self, request: CafRequest, observer: CafObserver, awaited: frozenset[str]) -> CollectedSummary:
        self.ahead.append(request.directory)
        return CollectedSummary(files=1)

    @property
    def scripts(self) -> list[str]:
        return [request.script.stem for request in self.requests]

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        self.requests.append(request)
        script = request.script.stem
        if script in self._unreachable:
            raise BackendError("the batch system does not answer; ask its administrator", transient=False)
        observer.state(script, "collector_submitted", 0)
        collected = CollectedSummary(
            files=4, events={run: 100 for _, run in request.input_data["hadron_calib"]}, jobs=4
        )
        if script in self._broken:
            return CafResult(
                {script: "failed"}, {}, {script: self._broken[script]}, collected, {"collect": 1.0}, {script: 0}
            )
        if len({run for _, run in request.input_data["hadron_calib"]}) < self.hungry.get(script, 0):
            errors, spent, short = {script: f"{script} has not enough data"}, {"collect": 1.0}, frozenset({script})
            return CafResult({script: "failed"}, {}, errors, collected, spent, {script: 0}, short_of_data=short)
        joined = "" if request.requested_iov in {BUCKET_1.iov, BUCKET_2.iov} else "_of_two_buckets"
        directory = request.directory / "caf_outputdb_results" / f"{script}{joined}"
        database = LocalDatabase(directory)
        if not database.entries():
            database.add_all([self._payload(request, name) for name in self._payloads[script]])
        seconds = {"collect": 1.0, "algorithms": 2.0}
        return CafResult({script: "completed"}, {script: directory}, {}, collected, seconds, {script: 1})

    def cancel(self) -> None:
        """There is nothing to end."""

    def _payload(self, request: CafRequest, name: str) -> LocalPayload:
        file = request.directory / f"{name}.root"
        value = self._values.get(name, 1.0)
        write_payload(file, name, {"value": np.array([value]), "value_err": np.array([0.1])})
        iov = request.requested_iov
        if self._open_ended:
            iov = IoV(iov.exp_low, iov.run_low, -1, -1)
        if name in self._gaps:
            iov = IoV(iov.exp_low, iov.run_low + 1, iov.exp_high, iov.run_high)
        return LocalPayload(name, file, iov)


class FakeCdst(CdstProducer):
    """Says that every raw file has become a cDST file."""

    def __init__(self) -> None:
        self.requests: list[CdstRequest] = []

    def produce(self, request: CdstRequest, observer: CafObserver) -> CdstResult:
        self.requests.append(request)
        runs = tuple(
            replace(run, files=tuple(replace(f, data_format="cdst") for f in run.files)) for run in request.runs
        )
        return CdstResult(runs, rejected={}, seconds=1.0, jobs=len(runs))


class FakeValidation:
    """Gives one figure per calibration and writes one small plot.

    Args:
        pulls: script name to the figure ``pull``; 0 where there is none. It warns beyond 2 and fails beyond 5.
    """

    def __init__(self, pulls: Mapping[str, float] | None = None) -> None:
        self._pulls = dict(pulls or {})
        self.requests: list[ValidationRequest] = []

    def __call__(self, request: ValidationRequest) -> list[Figure]:
        self.requests.append(request)
        request.directory.mkdir(parents=True, exist_ok=True)
        (request.directory / "before_after.png").write_bytes(b"\x89PNG not really")
        value = self._pulls.get(request.script.stem, 0.0)
        return [Figure("pull", value, Threshold(high_warn=2.0, high_fail=5.0), description="mean pull")]


class DownRegistry(RunRegistry):
    """A registry that cannot be reached."""

    def add(self, records: Any) -> int:
        raise BackendError("the run registry at registry.example.org does not answer", transient=True)

    def changes(self, cursor: int, limit: int = 1000) -> Any:
        raise BackendError("the run registry at registry.example.org does not answer", transient=True)

    def runs(self, within: IoV | None = None, **_: Any) -> Any:
        raise BackendError("the run registry at registry.example.org does not answer", transient=True)

    def registrations(self, within: IoV) -> Any:
        raise BackendError("the run registry at registry.example.org does not answer", transient=True)

    def last_change(self, within: IoV) -> int:
        raise BackendError("the run registry at registry.example.org does not answer", transient=True)


def run_record(run: int, quality: str = "Good") -> RunRecord:
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=run)
    file = DataFile(f"/data/e0012/r{run:05d}.root", "hadron_calib", "raw", 1000, 5000, f"{run:064x}")
    return RunRecord(
        ExpRun(EXP, run), "physics", "4S", "On", frozenset({quality}), started, started + timedelta(minutes=50), (file,)
    )


def campaign_text(**changes: Any) -> str:
    """The test campaign with some keys replaced."""
    return CAMPAIGN + "".join(f"{key}: {json.dumps(value)}\n" for key, value in changes.items())


class Laboratory:
    """A home with the test campaign, and everything to work its buckets.

    Args:
        campaign: keys of the campaign file that differ.
        runs: how many runs are registered.
    """

    def __init__(
        self,
        directory: Path,
        instance: dg.DagsterInstance,
        *,
        caf: FakeCaf | None = None,
        validation: FakeValidation | None = None,
        campaign: Mapping[str, Any] | None = None,
        runs: int = 8,
    ) -> None:
        self.home = Home(directory / "home").create()
        scripts = directory / "scripts"
        scripts.mkdir(exist_ok=True)
        for name in CATALOGUE:
            for script in (name, name.replace("caf_", "val_")):
                (scripts / f"{script}.py").write_text("# never imported\n")
        self.store = FileCampaignStore(self.home)
        self.store.save_catalogue("test", Catalogue.from_json(CATALOGUE), scripts=scripts)
        self.store.save_campaign(campaign_text(**(campaign or {})))
        self.plan = CampaignPlan.read(self.store, "prompt")
        self.registry = EmbeddedRunRegistry(self.home.registry_url)
        self.registry.add(run_record(run) for run in range(1, runs + 1))
        self.conditions = EmbeddedConditionsDB(self.home.conditions_dir)
        if self.conditions.get_tag(BASE) is None:
            self._fill_base(directory)
        self.sign_offs = EmbeddedSignOffLog(self.home.registry_url)
        self.caf = caf or FakeCaf(payload_names())
        self.cdst = FakeCdst()
        self.validation = validation or FakeValidation()
        self.instance = instance

    def _fill_base(self, directory: Path) -> None:
        self.conditions.create_tag(BASE)
        names = [name for names in payload_names().values() for name in names]
        payloads = []
        for name in names:
            file = directory / f"base_{name}.root"
            write_payload(file, name, {"value": np.array([0.0]), "value_err": np.array([0.1])})
            payloads.append(LocalPayload(name, file, IoV(0, 0, -1, -1)))
        self.conditions.replace_iovs(BASE, names, payloads)
        self.conditions.set_state(BASE, expected=TagState.OPEN, new=TagState.TESTING)

    def book(self, *buckets: Bucket) -> None:
        for bucket in buckets:
            self.store.add_bucket("prompt", bucket, closed_by="test")

    def workshop(self, registry: RunRegistry | None = None) -> Workshop:
        return Workshop(
            places=self.home.area_at_hand,
            campaigns=self.store,
            runs=registry or self.registry,
            conditions=self.conditions,
            publisher=Publisher(self.conditions),
            sign_offs=self.sign_offs,
            caf=lambda _site: self.caf,
            cdst=lambda _site: self.cdst,
            validate=lambda _site: self.validation,
        )

    def target_content(self) -> list[tuple[str, IoV]]:
        if self.conditions.get_tag(TARGET) is None:
            return []
        return [(link.name, link.iov) for link in self.conditions.list_iovs(TARGET)]


def payload_names() -> dict[str, list[str]]:
    return {script: list(fields["produced_payloads"]) for script, fields in CATALOGUE.items()}
