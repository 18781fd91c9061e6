"""``b2cal caf jobs|log|retry|release|exclude|cancel`` on a request whose middle file cannot be digested."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uproot
from cli_answers import CommandLine
from servers.htcondor import HTCondorPool

from b2cal_caf.job_book import JobBook, JobRow, Stage
from b2cal_core.failure_policies import Trial
from resources.batch.opened import open_batch

SCRIPT = Path(__file__).parents[1] / "caf" / "synthetic" / "caf_synthetic.py"
FAILED = "first/0/default/1"


@pytest.fixture
def work(b2cal: CommandLine, tmp_path: Path) -> Path:
    """The working directory of a request that failed, beside its two JSON files."""
    inputs = []
    for run in (1, 2, 3):
        file = tmp_path / "data" / f"r{run}.root"
        file.parent.mkdir(exist_ok=True)
        with uproot.recreate(file, compression=None) as root:
            root.mktree("tree", {"x": np.dtype("f8")}).extend({"x": np.arange(10.0)})
        inputs.append([str(file), [7, run]])
    config = {
        "caf_script": str(SCRIPT),
        "database_chain": [],
        "requested_iov": [7, 1, 7, 3],
        "expert_config": {"collector": {"raises": ["r2.root"]}},
        "failure_policy": {"causes": {"killed": {"attempts": 0}}, "tolerance": 0.5},
    }
    (tmp_path / "caf_config.json").write_text(json.dumps(config))
    (tmp_path / "input_data.json").write_text(json.dumps({"beam": inputs}))
    assert run_again(b2cal, tmp_path / "work").code == 1
    return tmp_path / "work"


def run_again(b2cal: CommandLine, work: Path) -> object:
    files = work.parent / "caf_config.json", work.parent / "input_data.json"
    return b2cal("caf", "run", *files, "--workdir", work, "--max-processes", 1)


def test_the_sub_job_that_failed_is_shown_with_its_cause_and_its_log(b2cal: CommandLine, work: Path) -> None:
    shown = b2cal.ok("caf", "jobs", work).out
    for words in (FAILED, "code", "cannot digest r2.root", "nobody at the moment"):
        assert words in shown
    answer = b2cal.ok("caf", "jobs", work, "--json").json
    (job,) = answer["jobs"]
    assert (job["name"], job["stage"], job["cause"], job["attempt"]) == (FAILED, "failed", "code", 0)
    (counts,) = answer["counts"]
    assert (counts["completed"], counts["failed"]) == (2, 1)
    assert len(b2cal.ok("caf", "jobs", work, "--all", "--json").json["jobs"]) == 3
    assert len(b2cal.ok("caf", "jobs", work, "--stage", "completed", "--json").json["jobs"]) == 2
    assert "ValueError: cannot digest r2.root" in b2cal.ok("caf", "log", work, FAILED).out
    assert b2cal.ok("caf", "log", work, "first/0/default/0", "--json").json["attempt"] == 0


def test_its_file_is_left_out_and_the_request_completed(b2cal: CommandLine, work: Path, tmp_path: Path) -> None:
    file = tmp_path / "data" / "r2.root"
    said = b2cal.ok("caf", "exclude", work, file, "--reason", "bad shift", "--author", "anna").out
    assert "nobody works on the request now" in said
    assert run_again(b2cal, work).code == 0
    assert f"{file} is left out by anna: bad shift" in b2cal.ok("caf", "jobs", work).out


def test_orders_are_taken_for_the_next_run(b2cal: CommandLine, work: Path) -> None:
    assert "1 sub-jobs to be tried again" in b2cal.ok("caf", "retry", work).out
    assert "0 sub-jobs ended" in b2cal.ok("caf", "cancel", work).out
    assert "0 sub-jobs to be released" in b2cal.ok("caf", "release", work).out


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("jobs", "elsewhere"), 1, "is it the working directory of a CAF request"),
        (("jobs", "work", "--stage", "asleep"), 2, "one of waiting, submitted"),
        (("log", "work", "first/0/default/7"), 1, "has no sub-job first/0/default/7"),
        (("retry", "work", "second"), 1, "second names no sub-job"),
        (("exclude", "work", "r2.root", "--reason", " "), 2, "say why"),
    ],
)
def test_what_is_wrong_is_said(b2cal: CommandLine, work: Path, command: tuple[str, ...], code: int, words: str) -> None:
    name, directory, *others = command
    answer = b2cal("caf", name, work.parent / directory, *others)
    assert answer.code == code
    assert words in " ".join(answer.err.split())


def test_a_policy_or_a_batch_system_that_is_none_is_refused(b2cal: CommandLine, work: Path) -> None:
    files = work.parent / "caf_config.json", work.parent / "input_data.json"
    assert b2cal("caf", "run", *files, "--workdir", work, "--batch", "abacus").code == 2
    config = json.loads(files[0].read_text()) | {"failure_policy": {"causes": {"luck": {}}}}
    files[0].write_text(json.dumps(config))
    answer = b2cal("caf", "run", *files, "--workdir", work)
    assert answer.code == 2
    assert "causes.luck" in answer.err


def test_why_a_sub_job_waits_is_asked_of_its_batch_system(
    b2cal: CommandLine, tmp_path: Path, htcondor: HTCondorPool
) -> None:
    (tmp_path / "work" / "calibration_results").mkdir(parents=True)
    book = JobBook(tmp_path / "work" / "calibration_results" / "caf_state.db")
    place = tmp_path / "work" / "0"
    row = JobRow(place, "first", 0, "default", 0, Stage.submitted, "key", 0, "", Trial(memory=900_000))
    batch = open_batch("htcondor")
    (native_id,) = batch.submit([row.spec])
    book.write([replace(row, native_id=native_id)])
    end = time.monotonic() + 60.0
    while not (waiting := b2cal.ok("caf", "jobs", tmp_path / "work", "--json").json["waiting"]):
        assert time.monotonic() < end
    assert list(waiting.values()) == [1]
    assert "1 submitted: waits in HTCondor: no match found" in b2cal.ok("caf", "jobs", tmp_path / "work").out
    batch.cancel([native_id])
    assert htcondor.run("condor_q", "-af", "ClusterId") == ""
