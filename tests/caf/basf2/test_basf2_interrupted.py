"""Killed, adopted, cancelled: with real processes, nothing runs twice and nothing is left running."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from basf2_workbench import PATIENCE, Basf2Workbench, process_ids, wait_until
from caf_workbench import Notebook, values

from b2cal_caf.forks import Child, start_child
from b2cal_core.errors import BackendError
from b2cal_core.ports import CafRequest, CafResult
from resources.caf.basf2 import Basf2Caf
from resources.caf.basf2_process import start_script, write_process

RUNS = [(7, 1, 10), (7, 2, 20)]
FAKE_CONDOR = Path(__file__).parent / "fake_condor"


def waiting(basf2: Basf2Workbench, **config: Any) -> CafRequest:
    """A request whose sub-jobs wait for the file ``go``."""
    return basf2.request(basf2.kept_files(RUNS), collector={"waits_for": str(basf2.place / "go")}, **config)


def tool_pid(request: CafRequest) -> int:
    return int(json.loads((request.directory / "basf2_process.json").read_text())["pid"])


def collecting(basf2: Basf2Workbench) -> bool:
    """Whether both sub-jobs have started."""
    return len(basf2.done()) >= len(RUNS)


class Running:
    """A run in another thread, and what became of it."""

    def __init__(self, caf: Basf2Caf, request: CafRequest, heard: Notebook | None = None) -> None:
        self.heard = heard or Notebook()
        self.result: CafResult | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(caf, request))
        self.thread.start()

    def _run(self, caf: Basf2Caf, request: CafRequest) -> None:
        try:
            self.result = caf.run(request, self.heard)
        except BackendError as error:
            self.error = error

    def end(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def killed_platform(basf2: Basf2Workbench) -> CafRequest:
    """A request that a platform process started, which was killed while the sub-jobs were running."""
    request = waiting(basf2)

    def work() -> int:
        basf2.basf2().run(request, Notebook())
        return 0

    log = basf2.place / "platform"
    child: Child = start_child(work, directory=basf2.place, stdout=log, stderr=log)
    wait_until(lambda: collecting(basf2) or child.poll() is not None)
    child.kill()
    assert child.stop() == -signal.SIGKILL, log.read_text()
    return request


class TestKilledPlatform:
    def test_the_tool_it_left_running_is_adopted(self, basf2: Basf2Workbench, killed_platform: CafRequest) -> None:
        left = tool_pid(killed_platform)
        running = Running(basf2.basf2(), killed_platform)
        wait_until(lambda: running.heard.logs)
        assert f"b2caf-prompt-run started before still runs, as process {left}" in running.heard.logs[0]
        (basf2.place / "go").touch()
        running.end()
        assert running.result is not None
        assert running.result.ok
        assert not running.result.resumed
        assert sum(running.result.collected.events.values()) == 30
        assert sorted(basf2.done()) == ["e7r1.root", "e7r2.root"]
        assert basf2.basf2().run(killed_platform, Notebook()).resumed

    def test_a_tool_that_ended_meanwhile_is_not_started_again_for_what_it_did(
        self, basf2: Basf2Workbench, killed_platform: CafRequest
    ) -> None:
        (basf2.place / "go").touch()
        wait_until(lambda: process_ids(killed_platform.directory) == [])
        assert basf2.basf2().run(killed_platform, Notebook()).ok
        assert sorted(basf2.done()) == ["e7r1.root", "e7r2.root"]
        assert len(basf2.done("calibrate")) == 1

    def test_a_tool_on_other_inputs_is_ended_first(self, basf2: Basf2Workbench, killed_platform: CafRequest) -> None:
        left = process_ids(killed_platform.directory)
        other = basf2.request(basf2.kept_files(RUNS), calibrations=[{"name": "other"}])
        assert basf2.basf2().run(other, Notebook()).states == {"other": "completed"}
        assert left
        assert not set(left) & set(process_ids(basf2.place))

    def test_sub_jobs_that_outlived_their_tool_are_ended_before_it_is_started_again(
        self, basf2: Basf2Workbench, killed_platform: CafRequest
    ) -> None:
        left = process_ids(killed_platform.directory)
        sub_jobs = [pid for pid in left if "collect_job" in Path(f"/proc/{pid}/cmdline").read_text()]
        for pid in set(left) - set(sub_jobs):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: set(process_ids(killed_platform.directory)) == set(sub_jobs))
        (basf2.place / "go").touch()
        assert basf2.basf2().run(killed_platform, Notebook()).ok
        assert not set(sub_jobs) & set(process_ids(basf2.place))


class TestKilledTool:
    @pytest.mark.parametrize(
        ("where", "calibrated"),
        [
            ("a running_collector 0", "aab"),
            ("a running_algorithms 0", "aab"),
            ("a algorithms_completed 0", "aaab"),
            ("a collector_completed 1", "aab"),
            ("b running_collector 0", "aab"),
            ("b completed 0", "aab"),
        ],
    )
    def test_a_killed_tool_goes_on_from_its_checkpoint(
        self, basf2: Basf2Workbench, monkeypatch: pytest.MonkeyPatch, where: str, calibrated: str
    ) -> None:
        calibrations = [{"name": "a", "does": "iterate", "max_iterations": 1}, {"name": "b", "depends_on": ["a"]}]
        request = basf2.request(basf2.files(RUNS), calibrations=calibrations, max_jobs=1)
        monkeypatch.setenv("FAKE_BASF2_PAUSE", where)
        running = Running(basf2.basf2(), request)
        wait_until((request.directory / "paused").exists)
        os.killpg(tool_pid(request), signal.SIGKILL)
        running.end()
        assert isinstance(running.error, BackendError), running.result
        assert running.error.transient
        assert "goes on from its checkpoint" in str(running.error)
        monkeypatch.delenv("FAKE_BASF2_PAUSE")
        result = basf2.basf2().run(request, Notebook())
        assert result.ok
        assert result.iterations == {"a": 1, "b": 0}
        assert "".join(line.split()[0] for line in basf2.done("calibrate")) == calibrated
        embedded = basf2.run(basf2.request(basf2.kept_files(RUNS), name="embedded", calibrations=calibrations))
        for name, directory in embedded.databases.items():
            assert values(result.databases[name], "Mean") == values(directory, "Mean")

    def test_only_the_tool_killed_not_the_shell_around_it(self, basf2: Basf2Workbench) -> None:
        request = waiting(basf2)
        running = Running(basf2.basf2(), request)
        wait_until(lambda: collecting(basf2))
        for pid in process_ids(request.directory):
            if "b2caf-prompt-run" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        running.end()
        assert "was killed by signal 9" in str(running.error)
        assert process_ids(request.directory) == []
        (basf2.place / "go").touch()
        assert basf2.basf2().run(request, Notebook()).ok


class TestCancelled:
    def test_nothing_is_left_running_also_when_the_tool_does_not_listen(self, basf2: Basf2Workbench) -> None:
        basf2.tool("trap '' TERM; while true; do sleep 0.1; done")
        caf, request = basf2.basf2(), basf2.request(basf2.files(RUNS))
        running = Running(caf, request)
        wait_until(lambda: any("runs as process" in line for line in running.heard.logs))
        caf.cancel()
        running.end()
        assert "was cancelled" in str(running.error)
        assert process_ids(request.directory) == []

    def test_while_the_release_is_asked(self, basf2: Basf2Workbench) -> None:
        basf2.tool(f"touch {basf2.place}/asked; sleep 1000", "b2caf-prompt-show")
        caf = basf2.basf2()
        running = Running(caf, basf2.request(basf2.files(RUNS)))
        wait_until((basf2.place / "asked").exists)
        caf.cancel()
        running.end()
        assert "was cancelled" in str(running.error)
        assert not any("sleep" in Path(f"/proc/{pid}/cmdline").read_text() for pid in process_ids(basf2.place))

    def test_an_interrupt_of_the_own_process_ends_the_tool(self, basf2: Basf2Workbench) -> None:
        class Interrupted(Notebook):
            def state(self, calibration: str, state: str, iteration: int) -> None:
                raise KeyboardInterrupt

        request = waiting(basf2)
        with pytest.raises(KeyboardInterrupt):
            basf2.basf2().run(request, Interrupted())
        assert process_ids(request.directory) == []

    def test_jobs_in_a_batch_system_are_withdrawn(self, basf2: Basf2Workbench) -> None:
        condor = basf2.place / "condor"
        condor.mkdir()
        caf = basf2.basf2(f"export FAKE_CONDOR={condor} PATH={FAKE_CONDOR}:$PATH", "HTCondor")
        request = waiting(basf2)
        running = Running(caf, request)
        wait_until(lambda: collecting(basf2))
        caf.cancel()
        running.end()
        assert "was cancelled" in str(running.error)
        assert "2 jobs were withdrawn from HTCondor" in running.heard.logs
        assert len(list(condor.glob("*.removed"))) == 2
        wait_until(lambda: process_ids(request.directory) == [])
        (basf2.place / "go").touch()
        assert caf.run(request, Notebook()).ok

    def test_jobs_of_a_killed_tool_are_withdrawn_before_they_are_submitted_again(self, basf2: Basf2Workbench) -> None:
        condor = basf2.place / "condor"
        condor.mkdir()
        caf = basf2.basf2(f"export FAKE_CONDOR={condor} PATH={FAKE_CONDOR}:$PATH", "HTCondor")
        request = waiting(basf2)
        running = Running(caf, request)
        wait_until(lambda: collecting(basf2))
        os.killpg(tool_pid(request), signal.SIGKILL)
        running.end()
        assert "killed from outside" in str(running.error)
        assert "2 jobs were withdrawn from HTCondor" in running.heard.logs
        wait_until(lambda: process_ids(request.directory) == [])
        (basf2.place / "go").touch()
        assert caf.run(request, Notebook()).ok
        assert len(basf2.done()) == 4

    def test_jobs_that_cannot_be_withdrawn_are_named(self, basf2: Basf2Workbench) -> None:
        condor = basf2.place / "condor"
        condor.mkdir()
        basf2.tool("echo 'schedd does not answer' >&2; exit 1", "condor_rm")
        caf = basf2.basf2(
            f"export FAKE_CONDOR={condor} PATH={basf2.place}/tools:{FAKE_CONDOR}:$PATH", "HTCondor", queue=None
        )
        running = Running(caf, waiting(basf2))
        wait_until(lambda: collecting(basf2))
        caf.cancel()
        running.end()
        ids = {file.name for file in condor.iterdir()}
        said = next(line for line in running.heard.logs if line.startswith("condor_rm "))
        assert all(number in said for number in ids)
        assert said.endswith("ended with exit code 1: schedd does not answer")


class TestProcesses:
    def test_a_script_that_is_not_told_to_go_does_nothing(self, basf2: Basf2Workbench) -> None:
        script = basf2.place / "script.sh"
        script.write_text(basf2.environment().script(["touch", str(basf2.place / "done")], basf2.place / "end"))
        subprocess.run(["/bin/bash", str(script)], stdin=subprocess.DEVNULL, check=True)
        assert not (basf2.place / "end").exists()
        assert not (basf2.place / "done").exists()

    def test_a_number_that_another_process_has_got_is_left_alone(self, basf2: Basf2Workbench) -> None:
        request = basf2.request(basf2.files(RUNS[:1]))
        request.directory.mkdir()
        bystander = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
        try:
            written = {"pid": bystander.pid, "birth": "another", "host": os.uname().nodename, "identity": "x"}
            (request.directory / "basf2_process.json").write_text(json.dumps(written))
            assert basf2.basf2().run(request, Notebook()).ok
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()

    @pytest.mark.parametrize("alive", [False, True])
    def test_a_process_of_another_machine_counts_while_it_holds_its_lock(
        self, basf2: Basf2Workbench, *, alive: bool
    ) -> None:
        request = basf2.request(basf2.files(RUNS[:1]))
        request.directory.mkdir()
        script = basf2.place / "elsewhere.sh"
        script.write_text("read -r go; sleep 1000\n")
        lock = request.directory / "basf2_lock"
        output = basf2.place / "elsewhere.output"
        process = start_script(script, basf2.place, stdout=output, stderr=output, lock=lock)
        record = request.directory / "basf2_process.json"
        write_process(record, process, "x")
        record.write_text(record.read_text().replace(os.uname().nodename, "elsewhere"))
        try:
            if alive:
                with pytest.raises(BackendError, match="here or on another machine"):
                    basf2.basf2().run(request, Notebook())
            else:
                process.stop()
                assert basf2.basf2().run(request, Notebook()).ok
        finally:
            process.stop()
