"""The eight scripts through the platform's own CAF, with closure and validations of what it leaves behind."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from quick_bucket import CDST_SCRIPTS, RAW_SCRIPTS, simulated

from b2cal_caf.layout import RequestLayout
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import read_payload, write_payload
from b2cal_caf.scripts import load_script
from b2cal_caf.validation import run_validation_script
from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import CafObserver, CafRequest, CafResult, CdstRequest, ValidationRequest
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord, select_files
from b2cal_core.verdicts import Figure, Verdict
from b2cal_detector.compare import compare, run_weights
from b2cal_detector.nominal import write_nominal
from b2cal_detector.release import RECONSTRUCTION, SCRIPTS
from b2cal_detector.truth import Truth
from resources.batch.local import LocalBatch
from resources.caf.cdst import EmbeddedCdst
from resources.caf.embedded import EmbeddedCaf

SEED = 2
ALL_SCRIPTS = (*RAW_SCRIPTS, *CDST_SCRIPTS)


class Listener(CafObserver):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def state(self, calibration: str, state: str, iteration: int) -> None:
        self.lines.append(f"{calibration} {state} {iteration}")

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        self.lines.append(f"{calibration} {dict(counts)}")

    def log(self, message: str) -> None:
        self.lines.append(message)


class RealBucket:
    """A bucket worked by the embedded CAF on local processes, with its chain kept as testing payload storages."""

    def __init__(self, home: Path, records: Sequence[RunRecord]) -> None:
        self.home, self.records = home, records
        self.iov = IoV.spanning(record.run for record in records)
        self.staging = LocalDatabase(home / "staging")
        self.results: dict[str, CafResult] = {}
        write_nominal(home / "nominal")
        batch = LocalBatch(2)
        self._caf = EmbeddedCaf(batch, None, home / "cache")
        self._cdst = EmbeddedCdst(batch, None, RECONSTRUCTION)

    @property
    def chain(self) -> tuple[str, ...]:
        staging = (str(self.staging.directory),) if self.staging.text_file.exists() else ()
        return (str(self.home / "nominal"), *staging)

    def calibrate(self, name: str) -> None:
        script = SCRIPTS / f"caf_{name}.py"
        settings = load_script(script).settings
        chosen = select_files(self.records, settings.input_data_filters, data_format=settings.stage)
        inputs = {key: tuple((Path(f.file.path), f.run) for f in files) for key, files in chosen.items()}
        request = CafRequest(self.job(name), script, self.chain, self.iov, inputs)
        self.results[name] = self._caf.run(request, Listener())
        for directory in self.results[name].databases.values():
            self.staging.add_all(list(LocalDatabase(directory).entries()))

    def reconstruct(self) -> None:
        self.records = self._cdst.produce(
            CdstRequest(self.home / "cdst", tuple(self.records), self.chain), Listener()
        ).runs

    def job(self, name: str) -> Path:
        return self.home / "work" / name

    def validate(
        self, name: str, directory: Path, *, job: Path | None = None, previous: Path | None = None
    ) -> dict[str, Figure]:
        script = SCRIPTS / f"val_{name}.py"
        request = ValidationRequest(directory, script, job or self.job(name), self.iov, {}, previous)
        return {figure.name: figure for figure in run_validation_script(request)}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> RealBucket:
    home = tmp_path_factory.mktemp("bucket")
    made = RealBucket(home, simulated(SEED, home, count=10))
    for name in RAW_SCRIPTS:
        made.calibrate(name)
    made.reconstruct()
    for name in CDST_SCRIPTS:
        made.calibrate(name)
    return made


def test_every_script_completes(bucket):
    assert {name: result.ok for name, result in bucket.results.items()} == dict.fromkeys(ALL_SCRIPTS, True)
    assert bucket.results["cdc"].iterations["tz0"] >= 2
    assert "rungain0" not in bucket.results["cdcdedx"].databases


def test_what_the_real_caf_leaves_closes(bucket):
    truth, seen = Truth(SEED), set()
    for entry in bucket.staging.entries():
        columns = read_payload(entry.file, entry.name)
        weights = run_weights(entry.name, bucket.records, entry.iov)
        for found in compare(truth, entry.name, columns, iov=entry.iov, weights=weights):
            seen.add(entry.name)
            if found.pulls.size > 1:
                assert abs(found.pull_mean) < 4.5 / np.sqrt(found.pulls.size), (found.name, found.column)
                assert abs(found.pull_width - 1) < 4.5 / np.sqrt(2 * found.pulls.size), (found.name, found.column)
            else:
                assert abs(found.pulls[0]) < 4.5, (found.name, found.column, found.iov)
    assert seen == set(truth.names)


@pytest.mark.parametrize("name", ALL_SCRIPTS)
def test_good_data_pass_and_are_shown(name, bucket, tmp_path):
    figures = bucket.validate(name, tmp_path / "validation")
    assert {f.name: (f.value, f.verdict) for f in figures.values() if f.verdict is not Verdict.passed} == {}
    plots = sorted(path.name for path in (tmp_path / "validation").glob("*.png"))
    assert plots
    assert all((tmp_path / "validation" / plot).read_bytes().startswith(b"\x89PNG") for plot in plots)


def _as_of_an_earlier_bucket(bucket: RealBucket, directory: Path, changes: Mapping[str, tuple[str, float]]) -> Path:
    """The bucket's own constants, said to be valid before it, some moved by a value."""
    before = IoV(11, 1, bucket.iov.exp_low, bucket.iov.run_low - 1)
    for entry in bucket.staging.entries():
        if entry.iov.contains(ExpRun(*bucket.iov.start)):
            columns = read_payload(entry.file, entry.name)
            column, shift = changes.get(entry.name, ("", 0.0))
            if column:
                columns[column] = columns[column] + shift
            write_payload(directory / "payload.root", entry.name, columns)
            LocalDatabase(directory / "previous").add(entry.name, directory / "payload.root", before)
    return directory / "previous"


@pytest.mark.parametrize("name", ALL_SCRIPTS)
def test_the_bucket_before_is_compared_with(name, bucket, tmp_path):
    same = _as_of_an_earlier_bucket(bucket, tmp_path / "same", {})
    figures = bucket.validate(name, tmp_path / "a", previous=same)
    added = {f.name for f in figures.values()} - {f.name for f in bucket.validate(name, tmp_path / "b").values()}
    assert added
    assert Verdict.worst(f.verdict for f in figures.values()) is Verdict.passed


MOVED = {
    "cdc": ("CDCTimeZeros", "t0", 3.0),
    "svd_time": ("SVDTimeCalibrations", "slope", 0.1),
    "top": ("TOPCalCommonT0", "t0", 3.0),
    "cdcdedx": ("CDCDedxWireGain", "gain", 0.5),
    "ecl_E": ("ECLCrystalEnergy", "constant", 0.1),
    "beamspot": ("BeamSpot", "x", 0.2),
    "boostvector": ("CollisionBoostVector", "x", 0.01),
    "ecms": ("CollisionInvariantMass", "mass", 0.1),
}


@pytest.mark.parametrize("name", ALL_SCRIPTS)
def test_a_large_change_against_the_bucket_before_fails(name, bucket, tmp_path):
    payload, column, shift = MOVED[name]
    previous = _as_of_an_earlier_bucket(bucket, tmp_path, {payload: (column, shift)})
    figures = bucket.validate(name, tmp_path / "validation", previous=previous)
    assert Verdict.worst(f.verdict for f in figures.values()) is Verdict.fail


SPOILED = {
    "svd_time": ("svd_time", "SVDTimeCalibrations", "offset", 3.0),
    "top": ("commonT0", "TOPCalCommonT0", "t0", 1.0),
    "cdcdedx": ("wiregain0", "CDCDedxRunGain", "gain", 0.2),
    "ecl_E": ("ECLCrystalEnergyee5x5", "ECLCrystalEnergyee5x5", "constant", 0.02),
    "beamspot": ("BeamSpot", "BeamSpot", "x", 0.01),
    "boostvector": ("BoostVector", "CollisionBoostVector", "x", 0.002),
    "ecms": ("InvariantMass", "CollisionInvariantMass", "mass", 0.3),
}
"""Calibration, payload and column that are moved, and by how much."""


@pytest.mark.parametrize("name", SPOILED)
def test_wrong_constants_are_caught_without_the_truth(name, bucket, tmp_path):
    calibration, payload, column, shift = SPOILED[name]
    job = tmp_path / "job"
    shutil.copytree(bucket.job(name), job)
    database = LocalDatabase(RequestLayout(job).outputdb(calibration))
    entries = [entry for entry in database.entries() if entry.name == payload]
    database.text_file.write_text(
        "".join(
            line + "\n" for line in database.text_file.read_text().splitlines() if f"dbstore/{payload} " not in line
        )
    )
    for entry in entries:
        columns = read_payload(entry.file, payload)
        write_payload(tmp_path / "moved.root", payload, columns | {column: columns[column] + shift})
        database.add(payload, tmp_path / "moved.root", entry.iov)
    figures = bucket.validate(name, tmp_path / "validation", job=job)
    assert Verdict.worst(f.verdict for f in figures.values()) is Verdict.fail


def test_wire_offsets_that_did_not_converge_are_caught(bucket, tmp_path):
    job = tmp_path / "job"
    shutil.copytree(bucket.job("cdc"), job)
    for iteration in range(1, bucket.results["cdc"].iterations["tz0"] + 1):
        shutil.rmtree(RequestLayout(job).calibration("tz0") / str(iteration))
    figures = bucket.validate("cdc", tmp_path / "validation", job=job)
    assert figures["hit_resolution"].verdict is Verdict.fail
    assert figures["mean_residual_width"].verdict is Verdict.fail


def test_a_job_without_payloads_is_named(bucket, tmp_path):
    job = tmp_path / "job"
    shutil.copytree(bucket.job("top"), job)
    (RequestLayout(job).outputdb("commonT0") / "database.txt").unlink()
    with pytest.raises(ConfigurationError, match="left no TOPCalCommonT0"):
        bucket.validate("top", tmp_path / "validation", job=job)
