"""Killed, cancelled, repeated: a request goes on where it was, and nothing finished is done again."""

import dataclasses
import os
import threading
from pathlib import Path

import pytest
from caf_workbench import Notebook, Workbench, contents

from b2cal_caf.checkpoints import caf_status
from b2cal_caf.forks import start_child, wait_for
from b2cal_caf.root_files import root_damage
from b2cal_core.errors import BackendError
from b2cal_core.ports import CafRequest
from b2cal_core.ranges import ExpRun, IoV

RUNS = [(7, run, 10 * run) for run in range(1, 7)]
CALIBRATIONS = [
    {"name": "a", "does": "iterate", "max_iterations": 1, "strategy": "SequentialRunByRun"},
    {"name": "b", "depends_on": ["a"], "shows_chain": True},
    {"name": "c"},
]


def killed_run(bench: Workbench, request: CafRequest, *, after: int) -> bool:
    """Run the request in a process that is killed after so many events; whether it was."""

    def work() -> int:
        bench.run(request, Notebook(kill_after=after))
        return 0

    log = bench.place / "killed"
    child = start_child(work, directory=bench.place, stdout=log, stderr=log)
    while child.poll() is None:
        wait_for([child], 1.0)
    assert child.exit_code in {0, -9}, log.read_text()
    return child.exit_code == -9


def finished_files(bench: Workbench) -> set[str]:
    """Input files whose collector output is there."""
    outputs = (bench.place / "killed_request").rglob("CollectorOutput.root")
    done = {path.parent for path in outputs if root_damage(path) is None}
    return {
        line.partition(":")[0].rpartition("/")[2]
        for directory in done
        if (directory / "stdout").exists()  # it was run, not taken from the cache
        for line in (directory / "stdout").read_text().splitlines()
    }


def test_a_request_killed_anywhere_is_resumed_and_ends_with_the_same_payloads(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    undisturbed = Notebook()
    expected = bench.run(
        bench.request(inputs, name="undisturbed", calibrations=CALIBRATIONS[:2], max_files_per_job=3),
        undisturbed,
        cache="other_cache",
    )
    assert expected.ok
    bench.diary.unlink()
    request = bench.request(inputs, name="killed_request", calibrations=CALIBRATIONS[:2], max_files_per_job=3)
    finished: set[str] = set()
    kills = 0
    while killed_run(bench, request, after=4):
        kills += 1
        assert kills < 30
        again = finished & set(bench.done())
        assert all(bench.done().count(name) == 1 for name in again)
        finished |= finished_files(bench)
    assert kills >= 3
    result = bench.run(request)
    assert result.resumed
    assert result.states == expected.states
    assert result.iterations == expected.iterations
    assert result.collected.events == expected.collected.events
    for name, directory in expected.databases.items():
        assert contents(result.databases[name]) == contents(directory)


@pytest.mark.parametrize("after", [1, 2, 3, 6, 9])
def test_one_kill_at_a_point_leaves_nothing_half_done(bench: Workbench, after: int) -> None:
    inputs = bench.files(RUNS[:3])
    expected = bench.run(bench.request(inputs, name="undisturbed", calibrations=CALIBRATIONS), cache="other_cache")
    request = bench.request(inputs, name="killed_request", calibrations=CALIBRATIONS)
    assert killed_run(bench, request, after=after)
    result = bench.run(request)
    assert result.ok
    assert {n: contents(d) for n, d in result.databases.items()} == {
        n: contents(d) for n, d in expected.databases.items()
    }


def test_a_finished_request_is_answered_at_once(bench: Workbench) -> None:
    request = bench.request(bench.files(RUNS))
    first = bench.run(request)
    heard = Notebook()
    second = bench.run(request, heard)
    assert second.resumed
    assert not first.resumed
    assert dataclasses.replace(second, resumed=False, seconds={}) == dataclasses.replace(first, seconds={})
    assert heard.states("first") == []
    assert len(bench.done()) == 6


def test_changed_inputs_start_anew_without_mixing(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    first = bench.run(bench.request(inputs, calibrations=[{"name": "old"}]))
    (first.databases["old"] / "stale").touch()
    heard = Notebook()
    second = bench.run(bench.request(inputs[1:], calibrations=[{"name": "new"}]), heard)
    assert not second.resumed
    assert second.states == {"new": "completed"}
    assert not first.databases["old"].exists()
    assert [row.name for row in caf_status(bench.place / "request")] == ["new"]
    assert any("the inputs changed" in line for line in heard.logs)


@pytest.mark.parametrize("what", ["file", "config", "iov", "constants", "script"])
def test_every_input_counts(bench: Workbench, what: str, tmp_path: Path) -> None:
    inputs = bench.files(RUNS[:2])
    constants = bench.constants("constants", {"Start": [(IoV(0, 0, -1, -1), 1.0)]})
    script = tmp_path / "caf_copy.py"
    script.write_text((Path(__file__).parent / "synthetic" / "caf_synthetic.py").read_text())
    request = bench.request(inputs, script=script, chain=(str(constants),))
    bench.run(request)
    assert bench.run(request).resumed
    if what == "file":
        bench.file("data/e7r1.root", 12)
    elif what == "config":
        request = dataclasses.replace(request, expert_config={"collector": {"scale": 2.0}})
    elif what == "iov":
        request = dataclasses.replace(request, requested_iov=IoV(7, 1, 7, 99))
    elif what == "constants":
        bench.constants("constants", {"Start": [(IoV(0, 0, -1, -1), 2.0)]})
    else:
        script.write_text(script.read_text() + "\nNEW = 1\n")
    assert not bench.run(request).resumed


def test_exported_payloads_that_were_removed_are_exported_again(bench: Workbench) -> None:
    request = bench.request(bench.files(RUNS[:1]))
    first = bench.run(request)
    (first.databases["first"] / "database.txt").unlink()
    second = bench.run(request)
    assert not second.resumed
    assert (second.databases["first"] / "database.txt").exists()
    assert len(bench.done("calibrate")) == 1


def test_a_second_one_waits_for_the_first_and_then_finds_it_done(bench: Workbench) -> None:
    request = bench.request(bench.files(RUNS))
    heard = [Notebook(), Notebook()]
    results = []
    threads = [threading.Thread(target=lambda n=n: results.append(bench.run(request, heard[n]))) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.resumed for result in results) == [False, True]
    assert any("waiting for another thread of this process" in line for notebook in heard for line in notebook.logs)
    assert len(bench.done()) == 6


def test_the_lock_of_another_process_is_waited_for_by_name_and_freed_by_its_death(bench: Workbench) -> None:
    request = bench.request(bench.files(RUNS[:1]), calibrations=[{"name": "c"}])
    gate = bench.place / "working"

    class Holder(Notebook):
        def state(self, calibration: str, state: str, iteration: int) -> None:
            gate.touch()
            threading.Event().wait()

    def hold() -> int:
        bench.run(request, Holder())
        return 0

    child = start_child(hold, directory=bench.place, stdout=bench.place / "log", stderr=bench.place / "log")
    while not gate.exists():
        wait_for([child], 0.01)

    class Waiter(Notebook):
        def log(self, message: str) -> None:
            super().log(message)
            child.kill()

    heard = Waiter()
    result = bench.run(request, heard)
    child.stop()
    assert result.ok
    assert f"waiting for process {child.pid} on {os.uname().nodename}" in heard.logs[0]


def test_cancelling_ends_the_run_and_its_jobs_and_asking_again_resumes(bench: Workbench) -> None:
    caf = bench.caf()
    request = bench.request(bench.files(RUNS), calibrations=[{"name": "c"}])

    class Canceller(Notebook):
        def state(self, calibration: str, state: str, iteration: int) -> None:
            super().state(calibration, state, iteration)
            caf.cancel()

    with pytest.raises(BackendError, match="cancelled") as caught:
        caf.run(request, Canceller())
    assert not caught.value.transient
    result = caf.run(request, Notebook())
    assert result.ok
    assert result.collected.events[ExpRun(7, 6)] == 60


def test_states_can_be_read_while_a_request_runs(bench: Workbench) -> None:
    seen = []

    class Reader(Notebook):
        def state(self, calibration: str, state: str, iteration: int) -> None:
            seen.append([(row.name, row.state.value) for row in caf_status(bench.place / "request")])

    bench.run(bench.request(bench.files(RUNS[:1])), Reader())
    assert seen[0] == [("first", "running_collector")]
    assert seen[-1] == [("first", "completed")]
