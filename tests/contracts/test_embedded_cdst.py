"""cDST production: what is made, what is not made again, and what goes wrong."""

import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "caf"))
from caf_workbench import Notebook, Reluctant, Workbench

from b2cal_core.errors import BackendError, ConfigurationError, DataError
from b2cal_core.failure_policies import CausePolicy, FailurePolicy
from b2cal_core.jobs import Cause
from b2cal_core.ports import CdstRequest, CdstResult
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord
from resources.batch.local import LocalBatch
from resources.caf.cdst import EmbeddedCdst

MODULE = "synthetic_reconstruction"
JOB = """
import json, os, signal
from pathlib import Path
import numpy as np, uproot
from b2cal_caf.conditions import ChainReader
from b2cal_core.ranges import ExpRun
READS = ("Start",)
MEMORY = 700

def main(args):
    asked = json.loads((Path(args[0]) / "cdst_job.json").read_text())
    with open(os.environ["SYNTHETIC_DIARY"], "a") as diary:
        diary.write(f"make {Path(asked['input']).name}\\n")
    marker = Path(asked["input"] + ".killed")
    if "unlucky" in asked["input"] and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "bad" in asked["input"]:
        raise ValueError("no track at all")
    run = ExpRun(asked["exp"], asked["run"])
    shift = ChainReader(map(Path, asked["databases"])).columns("Start", run)["value"][0]
    with uproot.open(asked["input"]) as raw:
        x = raw["tree"]["x"].array(library="np") + shift
    Path(asked["output"]).parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(asked["output"]) as cdst:
        cdst.mktree("tree", {"x": np.dtype("f8")}).extend({"x": x})
    return 0
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setenv("SYNTHETIC_DIARY", str(tmp_path / "diary"))
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{MODULE}.py").write_text(JOB)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield Workbench(tmp_path)
    sys.modules.pop(MODULE, None)


def record(bench: Workbench, run: int, *names: str, events: int = 10) -> RunRecord:
    """A run with raw files of these names."""
    files = []
    for name in names:
        path = bench.file(f"raw/r{run}/{name}.root", events)
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(DataFile(str(path), "hadron_calib", "raw", events, path.stat().st_size, checksum))
    when = datetime(2024, 1, 1, tzinfo=UTC)
    return RunRecord(ExpRun(12, run), "physics", "4S", "On", frozenset({"Good"}), when, when, tuple(files))


def produce(
    bench: Workbench,
    *records: RunRecord,
    shift: float = 1.0,
    iov: IoV = IoV(0, 0, -1, -1),  # noqa: B008 (frozen)
    memory: int | None = None,
) -> CdstResult:
    name = f"constants_{shift}_{iov}"
    if not (bench.place / name).exists():
        bench.constants(name, {"Start": [(IoV(0, 0, -1, -1), 1.0), (iov, shift)]})
    producer = EmbeddedCdst(LocalBatch(2, memory=memory), None, MODULE)
    return producer.produce(CdstRequest(bench.place / "cdst", records, (str(bench.place / name),)), Notebook())


def test_every_raw_file_becomes_a_cdst_file_with_its_facts(bench: Workbench) -> None:
    result = produce(bench, record(bench, 1, "a", "b"), record(bench, 2, "a"))
    assert (result.jobs, result.cached, result.rejected) == (3, 0, {})
    assert [len(run.files) for run in result.runs] == [2, 1]
    file = result.runs[0].files[0]
    path = Path(file.path)
    assert path == bench.place / "cdst/e0012/r00001/hadron_calib/cdst/a.root"
    assert (file.tag, file.data_format, file.events) == ("hadron_calib", "cdst", 10)
    assert file.size == path.stat().st_size
    assert file.checksum == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_job_is_given_the_memory_that_its_module_asks_for(bench: Workbench) -> None:
    assert produce(bench, record(bench, 1, "a"), memory=700).jobs == 1
    with pytest.raises(ConfigurationError, match=r"700 MB, jobs here get .* 699 MB"):
        produce(bench, record(bench, 2, "a"), memory=699)


def test_unchanged_files_are_not_made_again(bench: Workbench) -> None:
    records = record(bench, 1, "a"), record(bench, 2, "a")
    first = produce(bench, *records)
    second = produce(bench, *records)
    assert (second.jobs, second.cached) == (0, 2)
    assert second.runs == first.runs
    third = produce(bench, *records, record(bench, 3, "a"))
    assert (third.jobs, third.cached) == (1, 2)


def test_only_runs_whose_constants_changed_are_made_again(bench: Workbench) -> None:
    records = [record(bench, run, "a") for run in (1, 2, 3)]
    produce(bench, *records)
    result = produce(bench, *records, shift=5.0, iov=IoV(12, 2, 12, 2))
    assert (result.jobs, result.cached) == (1, 2)


def test_a_cdst_file_that_was_lost_is_made_again(bench: Workbench) -> None:
    records = record(bench, 1, "a"), record(bench, 2, "a")
    first = produce(bench, *records)
    Path(first.runs[0].files[0].path).unlink()
    assert produce(bench, *records).jobs == 1


def test_raw_files_that_cannot_be_used_are_left_out_with_the_reason(bench: Workbench) -> None:
    good, empty, gone = record(bench, 1, "a"), record(bench, 2, "a", events=0), record(bench, 3, "a")
    Path(gone.files[0].path).unlink()
    result = produce(bench, good, empty, gone)
    assert result.rejected == {empty.files[0].path: "it holds no events", gone.files[0].path: "it does not exist"}
    assert [len(run.files) for run in result.runs] == [1, 0, 0]


def test_a_failing_job_is_an_error_and_the_others_are_kept(bench: Workbench) -> None:
    records = record(bench, 1, "a", "bad")
    with pytest.raises(DataError, match=r"bad\.root.*ValueError: no track at all"):
        produce(bench, records)
    with pytest.raises(DataError):
        produce(bench, records)
    assert sorted(bench.done("make")) == ["a.root", "bad.root", "bad.root"]


def test_a_killed_job_is_tried_again(bench: Workbench) -> None:
    result = produce(bench, record(bench, 1, "unlucky"))
    assert len(result.runs[0].files) == 1
    assert bench.done("make") == ["unlucky.root", "unlucky.root"]


def test_a_batch_system_that_takes_no_jobs_is_asked_again_and_people_are_told(bench: Workbench) -> None:
    policy = FailurePolicy(causes={Cause.batch: CausePolicy(attempts=2, pause=0.05)})
    chain = (str(bench.constants("constants", {"Start": [(IoV(0, 0, -1, -1), 1.0)]})),)
    request = CdstRequest(bench.place / "cdst", (record(bench, 1, "a"),), chain, policy)
    heard = Notebook()
    with pytest.raises(BackendError, match="the queue is being restarted"):
        EmbeddedCdst(Reluctant(3), None, MODULE).produce(request, heard)
    assert EmbeddedCdst(Reluctant(2), None, MODULE).produce(request, heard).jobs == 1
    assert sum("takes no jobs now" in line for line in heard.logs) == 4


def test_two_files_that_would_share_a_cdst_file_are_not_mixed(bench: Workbench) -> None:
    one, two = record(bench, 1, "a"), record(bench, 1, "sub/a")
    both = dataclasses.replace(one, files=(*one.files, *two.files))
    result = produce(bench, both)
    assert list(result.rejected) == [two.files[0].path]
    assert len(result.runs[0].files) == 1


def test_nothing_asked_for_makes_nothing(bench: Workbench) -> None:
    assert produce(bench).runs == ()
