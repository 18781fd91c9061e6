import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from batch_contract import PATIENCE, BatchContract
from own_children import own_children

from b2cal_core.errors import ConfigurationError
from b2cal_core.jobs import Cause, JobSpec, JobStatus
from b2cal_core.ports import BatchBackend
from resources.batch.local import LocalBatch

PARENT = """
import sys, time
from pathlib import Path
from b2cal_core.jobs import JobSpec
from resources.batch.local import LocalBatch
sys.path.insert(0, sys.argv[1])
spec = JobSpec("k", Path(sys.argv[2]), "batch_contract_job", (sys.argv[3],))
batch = LocalBatch(1)
print(*batch.submit([spec]), flush=True)
while True:
    batch.wait([], 0)
    time.sleep(0.01)
"""


class TestLocalBatch(BatchContract):
    def make(self, tmp_path: Path) -> BatchBackend:
        return LocalBatch(2)

    def test_no_more_than_the_given_number_run_at_a_time(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.spec(tmp_path, wait_for=str(tmp_path / "go")) for _ in range(5)])
        states = [state.status for state in backend.poll(ids).values()]
        assert states == [JobStatus.running] * 2 + [JobStatus.submitted] * 3
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}

    def test_the_most_urgent_of_those_that_wait_is_taken_first_and_the_earlier_of_two_alike(
        self, tmp_path: Path
    ) -> None:
        backend = LocalBatch(1)
        first = self.spec(tmp_path, wait_for=str(tmp_path / "go"))
        others = [replace(self.spec(tmp_path), priority=priority) for priority in (0, 2, -1, 2, 5)]
        ids = backend.submit([first, *others])
        backend.cancel([ids[5]])
        (tmp_path / "go").touch()
        self.ended(backend, ids)
        began = sorted(others[:4], key=lambda spec: (spec.directory / "exit_code").stat().st_mtime_ns)
        assert [spec.priority for spec in began] == [2, 2, 0, -1]
        assert began[0] is others[1]

    def test_jobs_of_less_than_no_priority_leave_the_processors_to_others(self, tmp_path: Path) -> None:
        (tmp_path / "modules" / "nice.py").write_text(
            "import os\nfrom pathlib import Path\ndef main(args):\n    Path('niceness').write_text(str(os.nice(0)))\n"
        )
        backend = LocalBatch(1)
        specs = [
            JobSpec(f"j{number}", tmp_path / f"j{number}", "nice", priority=priority)
            for number, priority in enumerate((-1, 0, 7, -200))
        ]
        self.ended(backend, backend.submit(specs))
        ours = os.nice(0)
        assert [int((spec.directory / "niceness").read_text()) - ours for spec in specs] == [10, 0, 0, 10]

    def test_jobs_die_with_the_process_and_are_then_lost_and_may_be_run_again(self, tmp_path: Path) -> None:
        waiting = self.spec(tmp_path, wait_for=str(tmp_path / "go"))
        command = [sys.executable, "-c", PARENT, str(tmp_path / "modules"), str(waiting.directory), waiting.args[0]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            job_id = parent.stdout.readline().strip()
            backend = LocalBatch(1)
            assert backend.poll([job_id])[job_id].status is JobStatus.running
            backend.wait([job_id], 0.01)
            parent.send_signal(signal.SIGKILL)
            parent.wait(PATIENCE)
        state = LocalBatch(1).poll([job_id])[job_id]
        assert state.status is JobStatus.failed
        assert "lost" in state.reason
        assert state.cause is Cause.node
        (tmp_path / "go").touch()
        spec = JobSpec("k", waiting.directory, waiting.module, waiting.args)
        assert self.ended(backend, backend.submit([spec]))[0].status is JobStatus.completed

    def test_one_instance_tells_of_the_running_jobs_of_another(self, tmp_path: Path) -> None:
        first, second = LocalBatch(1), LocalBatch(1)
        ids = first.submit([self.spec(tmp_path, wait_for=str(tmp_path / "go"))])
        assert second.poll(ids)[ids[0]].status is JobStatus.running
        first.cancel(ids)

    def test_a_child_of_the_job_is_ended_with_it(self, tmp_path: Path) -> None:
        (tmp_path / "modules" / "with_child.py").write_text(
            "import subprocess, sys\nfrom pathlib import Path\n"
            "def main(args):\n"
            "    child = subprocess.Popen(['sleep', '600'])\n"
            "    Path(args[0]).write_text(str(child.pid))\n"
            "    return child.wait()\n"
        )
        backend = LocalBatch(1)
        pid_file = tmp_path / "pid"
        ids = backend.submit([JobSpec("c", tmp_path / "jobs" / "c", "with_child", (str(pid_file),))])
        while not (pid_file.exists() and pid_file.read_text()):
            backend.wait(ids, 0.01)
        backend.cancel(ids)
        pid = int(pid_file.read_text())
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"

    def test_threads_may_wait_for_jobs_of_their_own(self, tmp_path: Path) -> None:
        backend = LocalBatch(2)
        ended: list[JobStatus] = []

        def work() -> None:
            ended.extend(s.status for s in self.ended(backend, backend.submit([self.spec(tmp_path) for _ in range(3)])))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert ended == [JobStatus.completed] * 9

    def test_the_environment_and_the_working_directory_are_the_jobs_own(self, tmp_path: Path) -> None:
        (tmp_path / "modules" / "looks_round.py").write_text(
            "import os\nfrom pathlib import Path\n"
            "def main(args):\n    Path('seen').write_text(os.environ['GREETING'])\n"
        )
        backend = LocalBatch(1)
        spec = JobSpec("e", tmp_path / "jobs" / "e", "looks_round", environment=(("GREETING", "good day"),))
        assert self.ended(backend, backend.submit([spec]))[0].status is JobStatus.completed
        assert (spec.directory / "seen").read_text() == "good day"
        assert "GREETING" not in os.environ

    def test_jobs_one_after_another_in_one_process_do_not_see_each_other(self, tmp_path: Path) -> None:
        (tmp_path / "modules" / "leaves_traces.py").write_text(
            "import os, sys\nfrom pathlib import Path\n"
            "def main(args):\n"
            "    here = f'{os.getpid()} {os.environ.get(\"TRACE\")} {Path.cwd().name}'\n"
            "    os.environ['TRACE'] = 'left'\n"
            "    print(here)\n"
        )
        backend = LocalBatch(1)
        specs = [JobSpec(name, tmp_path / "jobs" / name, "leaves_traces") for name in ("a", "b")]
        assert [s.status for s in self.ended(backend, backend.submit(specs))] == [JobStatus.completed] * 2
        seen = [(spec.directory / "stdout").read_text().split() for spec in specs]
        assert seen[0][0] == seen[1][0]
        assert [line[1:] for line in seen] == [["None", "a"], ["None", "b"]]

    def test_a_job_that_leaves_the_process_at_once_is_judged_by_its_code(self, tmp_path: Path) -> None:
        (tmp_path / "modules" / "leaves.py").write_text("import os\ndef main(args):\n    os._exit(int(args[0]))\n")
        backend = LocalBatch(1)
        specs = [JobSpec(code, tmp_path / "jobs" / code, "leaves", (code,)) for code in ("5", "0", "6")]
        states = self.ended(backend, backend.submit(specs))
        assert [state.exit_code for state in states] == [5, 0, 6]
        assert [(spec.directory / "exit_code").read_text().strip() for spec in specs] == ["5", "0", "6"]

    def test_no_process_is_left_when_there_is_no_work(self, tmp_path: Path) -> None:
        before = own_children()
        backend = self.make(tmp_path)
        self.ended(backend, backend.submit([self.spec(tmp_path) for _ in range(5)]))
        backend.poll([])
        assert own_children() <= before

    def test_a_module_that_does_not_exist_is_refused_before_anything_is_submitted(self, tmp_path: Path) -> None:
        backend = LocalBatch(1)
        good = self.spec(tmp_path)
        with pytest.raises(ConfigurationError, match="no_such_module"):
            backend.submit([good, JobSpec("x", tmp_path / "x", "no_such_module")])
        assert self.runs(tmp_path) == 0

    def test_jobs_that_need_more_than_one_processor_take_as_many_places(self, tmp_path: Path) -> None:
        backend = LocalBatch(3)
        wide = [replace(self.spec(tmp_path, wait_for=str(tmp_path / "go")), cpus=2) for _ in range(2)]
        ids = backend.submit([*wide, self.spec(tmp_path)])
        states = [state.status for state in backend.poll(ids).values()]
        assert states == [JobStatus.running, JobStatus.submitted, JobStatus.submitted]  # nobody overtakes
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}

    def test_jobs_are_not_given_more_memory_together_than_there_is(self, tmp_path: Path) -> None:
        backend = LocalBatch(3, memory=1200)
        ids = backend.submit([self.spec(tmp_path, wait_for=str(tmp_path / "go")) for _ in range(3)])
        states = [state.status for state in backend.poll(ids).values()]
        assert states == [JobStatus.running, JobStatus.running, JobStatus.submitted]
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}

    @pytest.mark.parametrize("wanted", [{"cpus": 3}, {"memory": 1001}])
    def test_a_job_larger_than_the_whole_is_refused(self, tmp_path: Path, wanted: dict[str, int]) -> None:
        backend = LocalBatch(2, memory=1000)
        with pytest.raises(ConfigurationError, match="ask for less"):
            backend.submit([replace(self.spec(tmp_path), **wanted)])

    def test_a_job_beside_others_is_kept_to_processors_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "modules" / "tells_processors.py").write_text(
            "import os, time\nfrom pathlib import Path\n"
            "def main(args):\n"
            "    Path('cpus').write_text(repr(os.sched_getaffinity(0)))\n"
            "    while not Path(args[0]).exists():\n        time.sleep(0.005)\n"
        )
        places = sorted(os.sched_getaffinity(0))[:2]
        backend = LocalBatch(len(places))
        specs = [
            JobSpec(str(n), tmp_path / "jobs" / str(n), "tells_processors", (str(tmp_path / "go"),)) for n in places
        ]
        ids = backend.submit(specs)
        files = [spec.directory / "cpus" for spec in specs]
        while not all(file.exists() and file.read_text() for file in files):
            backend.wait(ids, 0.01)
        (tmp_path / "go").touch()
        self.ended(backend, ids)
        assert sorted(file.read_text() for file in files) == sorted(f"{{{place}}}" for place in places)

    def test_why_a_job_was_ended_is_known_to_the_next_process(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        spec = replace(self.spec(tmp_path, wait_for=str(tmp_path / "go")), seconds=0)
        ids = backend.submit([spec])
        told = self.ended(backend, ids)[0]
        code = (
            "import sys; from resources.batch.local import LocalBatch;"
            "state = LocalBatch(1).poll([sys.argv[1]])[sys.argv[1]]; print(state.cause, state.reason)"
        )
        answer = subprocess.run([sys.executable, "-c", code, ids[0]], stdout=subprocess.PIPE, text=True, check=True)
        assert answer.stdout.strip() == f"time {told.reason}"

    def test_it_needs_at_least_one_process(self) -> None:
        with pytest.raises(ConfigurationError, match="at least 1"):
            LocalBatch(0)
