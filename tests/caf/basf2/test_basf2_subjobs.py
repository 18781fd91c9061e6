"""What the directories of basf2's sub-jobs tell."""

import json
from pathlib import Path

import pytest

from b2cal_core.jobs import Cause, JobStatus
from resources.caf.basf2_subjobs import EXIT_CODE, SubJob, path_of, subjobs_of


def subjob(place: Path, **files: str) -> SubJob:
    """A sub-job with these files, ``.`` written as ``__``, and its exit code as ``code``."""
    directory = place / "7"
    directory.mkdir()
    for name, text in files.items():
        (directory / (EXIT_CODE if name == "code" else name.replace("__", "."))).write_text(text)
    return SubJob("default", "7", directory)


@pytest.mark.parametrize(
    ("files", "status", "cause"),
    [
        ({}, JobStatus.submitted, None),
        ({"stdout": ""}, JobStatus.running, None),
        ({"stdout": "", "code": ""}, JobStatus.running, None),
        ({"htcondor__log": "000 (12.000.000) Job submitted\n...\n"}, JobStatus.submitted, None),
        ({"htcondor__log": "000 (12.000.000) …\n...\n001 (12.000.000) Job executing\n"}, JobStatus.running, None),
        ({"code": "0\n", "CollectorOutput__root": "root"}, JobStatus.completed, None),
        ({"code": "0\n"}, JobStatus.failed, Cause.output),
        ({"code": "1\n", "stderr": "ValueError: no\n"}, JobStatus.failed, Cause.code),
        ({"code": "1\n", "stderr": "OSError: [Errno 28] No space left on device\n"}, JobStatus.failed, Cause.disk),
        ({"code": "1\n", "stderr": "terminate called: std::bad_alloc\n"}, JobStatus.failed, Cause.memory),
        ({"code": "137\n"}, JobStatus.failed, Cause.killed),
        ({"code": "66\n"}, JobStatus.failed, Cause.input),
    ],
)
def test_a_sub_job_stands_where_its_files_say(
    tmp_path: Path, files: dict[str, str], status: JobStatus, cause: Cause | None
) -> None:
    state = subjob(tmp_path, **files).state()
    assert (state.status, state.cause) == (status, cause)


def test_a_sub_job_that_the_tool_gave_up_without_a_code_was_lost(tmp_path: Path) -> None:
    failure = subjob(tmp_path, stdout="").failure()
    assert failure is not None
    assert failure.cause is Cause.node


def test_sub_jobs_are_those_of_the_description_or_before_it_is_there_of_the_directories(tmp_path: Path) -> None:
    for number in (0, 1, 10, 2):
        (tmp_path / "collector_output" / "raw" / str(number)).mkdir(parents=True)
    assert [subjob.number for subjob in subjobs_of(tmp_path)] == ["0", "1", "2", "10"]
    described = {"output_patterns": ["*.txt"], "subjobs": [{"id": n, "input_files": [], "args": []} for n in range(3)]}
    file = tmp_path / "collector_input" / "raw" / "collector_job.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(described))
    assert [(subjob.number, subjob.patterns) for subjob in subjobs_of(tmp_path)] == [(n, ("*.txt",)) for n in "012"]
    file.write_text(json.dumps({"subjobs": []}))
    (whole,) = subjobs_of(tmp_path)
    assert whole.directory == tmp_path / "collector_output" / "raw"


def test_input_files_are_read_with_or_without_the_form_of_an_address(tmp_path: Path) -> None:
    listed = json.dumps(["file:///data/a%20b.root", "/data/c.root"])
    found = subjob(tmp_path)
    (found.directory / "__BACKEND_INPUT_FILES__.json").write_text(listed)
    assert found.files() == [Path("/data/a b.root"), Path("/data/c.root")]
    assert path_of("root://server//data/d.root") == "root://server//data/d.root"
