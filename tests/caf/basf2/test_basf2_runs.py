"""What the basf2 adapter gives to the tool, tells while it works, and takes from what it leaves."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from basf2_workbench import Basf2Workbench
from caf_workbench import Notebook, values

from b2cal_caf.payload_files import write_payload
from b2cal_core.errors import ConfigurationError
from b2cal_core.failure_policies import FailurePolicy
from b2cal_core.payloads import LocalPayload
from b2cal_core.ports import CafRequest
from b2cal_core.ranges import ExpRun, IoV
from resources.caf.basf2 import Basf2Caf
from resources.caf.basf2_options import Basf2Options
from resources.conditions.embedded import EmbeddedConditionsDB

RUNS = [(7, 1, 10), (7, 2, 20), (7, 3, 30)]


def test_the_tool_is_given_the_documented_files_and_options(basf2: Basf2Workbench) -> None:
    request = dataclasses.replace(
        basf2.request(basf2.files(RUNS[:1]), chain=("base", "staging"), max_jobs=5),
        backend_args={"request_memory": "4 GB", "max_files_per_job": 1},
    )
    assert basf2.basf2(log_level="WARNING", max_processes=3, max_subjobs=7).run(request, Notebook()).ok
    assert json.loads((request.directory / "caf_config.json").read_text()) == {
        "caf_script": "caf_synthetic.py",
        "database_chain": ["base", "staging"],
        "requested_iov": [0, 0, 99, 9999],
        "backend_args": {"request_memory": "4 GB"},
        "expert_config": {"max_jobs": 5},
    }
    inputs = json.loads((request.directory / "input_data.json").read_text())
    assert inputs == {"beam": [[str(basf2.place / "data"), [7, 1]]]}
    assert (
        "b2caf-prompt-run Local caf_config.json input_data.json --max-processes 3 --heartbeat 0 "
        "--max-files-per-subjob 1 --log-level WARNING"
    ) in (request.directory / "basf2_run.sh").read_text()


def test_states_and_jobs_are_told_and_the_payloads_are_those_of_the_embedded_caf(basf2: Basf2Workbench) -> None:
    calibrations = [
        {"name": "a", "does": "iterate", "max_iterations": 1, "strategy": "SequentialRunByRun"},
        {"name": "b", "depends_on": ["a"], "shows_chain": True},
    ]
    inputs = basf2.files(RUNS)
    heard = Notebook()
    result = basf2.basf2().run(basf2.request(inputs, calibrations=calibrations), heard)
    expected = basf2.run(basf2.request(inputs, name="embedded", calibrations=calibrations))
    assert result.states == expected.states
    assert result.iterations == expected.iterations == {"a": 1, "b": 0}
    assert result.collected.events == expected.collected.events == {ExpRun(7, r): 10 * r for r in (1, 2, 3)}
    assert (result.collected.files, result.collected.jobs, result.collected.cached) == (3, 9, 0)
    for name, payload in (("a", "Mean"), ("b", "Mean"), ("b", "Shown")):
        assert values(result.databases[name], payload) == values(expected.databases[name], payload)
    assert heard.states("a")[-1] == "completed"
    assert heard.states("b")[-1] == "completed"
    jobs = [event[2] for event in heard.events if event[0] == "jobs"]
    assert jobs
    assert all(sum(counts.values()) <= 3 for counts in jobs)
    assert result.seconds["collect"] >= 0


def test_payloads_that_are_not_to_be_saved_are_not_handed_over(basf2: Basf2Workbench) -> None:
    calibrations = [{"name": "between", "save_payloads": False}, {"name": "last", "depends_on": ["between"]}]
    result = basf2.basf2().run(basf2.request(basf2.files(RUNS[:1]), calibrations=calibrations), Notebook())
    assert result.ok
    assert result.databases == {"last": basf2.place / "request" / "caf_outputdb_results" / "last"}


def test_a_finished_request_is_answered_without_starting_basf2(basf2: Basf2Workbench) -> None:
    request = basf2.request(basf2.files(RUNS))
    basf2.basf2().run(request, Notebook())
    (basf2.release / "calibration").rename(basf2.release / "gone")
    assert basf2.basf2().run(request, Notebook()).resumed


def test_exported_payloads_that_were_removed_are_exported_again_from_the_checkpoint(basf2: Basf2Workbench) -> None:
    request = basf2.request(basf2.files(RUNS))
    first = basf2.basf2().run(request, Notebook())
    (first.databases["first"] / "database.txt").unlink()
    second = basf2.basf2().run(request, Notebook())
    assert not second.resumed
    assert (second.databases["first"] / "database.txt").is_file()
    assert second.collected == first.collected
    assert len(basf2.done()) == 3
    assert len(basf2.done("calibrate")) == 1


def test_other_inputs_start_anew_and_nothing_of_the_earlier_ones_is_left(basf2: Basf2Workbench) -> None:
    inputs = basf2.files(RUNS)
    old = basf2.basf2().run(basf2.request(inputs, calibrations=[{"name": "old"}]), Notebook())
    heard = Notebook()
    request = basf2.request(inputs[1:], calibrations=[{"name": "new"}])
    result = basf2.basf2().run(request, heard)
    assert result.states == {"new": "completed"}
    assert not old.databases["old"].exists()
    assert not (request.directory / "calibration_results" / "old").exists()
    assert "--overwrite-working-dir" in (request.directory / "basf2_run.sh").read_text()
    assert any("the inputs changed" in line for line in heard.logs)


@pytest.mark.parametrize("what", ["file", "config", "iov", "chain", "script", "release", "splitting"])
def test_every_input_counts(basf2: Basf2Workbench, what: str) -> None:
    request = dataclasses.replace(
        basf2.request(basf2.files(RUNS[:1])), script=basf2.scripts / "caf_synthetic.py", database_chain=("base",)
    )
    before = basf2.basf2()._identity(request)
    assert basf2.basf2()._identity(request) == before
    caf = basf2.basf2()
    if what == "file":
        basf2.file("data/e7r1.root", 12)
    elif what == "config":
        request = dataclasses.replace(request, expert_config={"collector": {"scale": 2.0}})
    elif what == "iov":
        request = dataclasses.replace(request, requested_iov=IoV(7, 1, 7, 99))
    elif what == "chain":
        request = dataclasses.replace(request, database_chain=("base", "more"))
    elif what == "script":
        request.script.write_text(request.script.read_text() + "\nNEW = 1\n")
    elif what == "release":
        caf = basf2.basf2("export RELEASE=2")
    else:
        caf = basf2.basf2(max_subjobs=3)
    assert caf._identity(request) != before


def test_the_content_of_a_tag_counts_where_it_can_be_looked_up(basf2: Basf2Workbench) -> None:
    tags = EmbeddedConditionsDB(basf2.place / "conditions")
    tags.create_tag("base")
    caf = Basf2Caf(basf2.environment(), conditions=tags)
    request = basf2.request(basf2.files(RUNS[:1]), chain=("base",))
    before = caf._identity(request)
    file = basf2.place / "start.root"
    write_payload(file, "Start", {"value": np.array([1.0])})
    tags.replace_iovs("base", ["Start"], [LocalPayload("Start", file, IoV(7, 1, 7, 9))])
    assert caf._identity(request) != before


def test_a_storage_on_disk_in_the_chain_is_refused(basf2: Basf2Workbench) -> None:
    local = basf2.constants("local", {"Start": [(IoV(0, 0, -1, -1), 1.0)]})
    request: CafRequest = basf2.request(basf2.files(RUNS[:1]), chain=(str(local),))
    with pytest.raises(ConfigurationError, match="takes the names of global tags only"):
        basf2.basf2().run(request, Notebook())


@pytest.mark.parametrize(
    ("backend", "options", "words"),
    [
        ("Slurm", {}, "knows the batch systems Local, LSF, PBS, HTCondor, not 'Slurm'"),
        ("Local", {"queue": "s"}, "does not take queue with the batch system Local"),
        ("LSF", {"max_processes": 2}, "does not take max_processes"),
        ("PBS", {"max_subjobs": 2, "max_files_per_subjob": 2}, "not by both"),
    ],
)
def test_options_that_the_tool_does_not_take_are_refused_at_once(
    basf2: Basf2Workbench, backend: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Basf2Caf(basf2.environment(), backend, Basf2Options(**options))


def test_what_counts_for_nothing_is_remarked(basf2: Basf2Workbench) -> None:
    heard = Notebook()
    request = basf2.request(basf2.files(RUNS[:1]), spelled_wrong=1)
    basf2.basf2().run(dataclasses.replace(request, failure_policy=FailurePolicy(tolerance=0.5)), heard)
    assert "expert_config has keys that the script does not declare: spelled_wrong" in heard.logs
    assert any("the failure policy of the campaign is not used" in line for line in heard.logs)


def test_files_of_a_directory_that_were_not_asked_for_are_not_read(basf2: Basf2Workbench) -> None:
    inputs = basf2.files(RUNS)
    basf2.file("data/empty.root", 0)
    empty = (basf2.place / "data" / "empty.root", ExpRun(7, 1))
    result = basf2.basf2().run(basf2.request([*inputs[:2], empty]), Notebook())
    assert sorted(basf2.done()) == ["e7r1.root", "e7r2.root"]
    assert result.collected.events == {ExpRun(7, 1): 10, ExpRun(7, 2): 20}
    assert result.collected.rejected == {str(Path(empty[0])): "it holds no events"}
