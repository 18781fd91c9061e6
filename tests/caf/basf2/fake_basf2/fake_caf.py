"""A fake of basf2's CAF: its state machine, state database and directories, for calibrations of the embedded CAF.

The states, what sets which checkpoint, what is deleted on a restart and what lies where are basf2's as documented.
Collectors, algorithms and strategies are the embedded CAF's own code, so that there are payloads to look at. The
calibrations go on one after the other in one loop; in basf2 each has a thread. Nothing of basf2 is in it.
"""

import json
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_jobs import Backend, Job
from fake_release import log

from b2cal_caf.calibration import Calibration, Collection
from b2cal_caf.collector_identity import describe
from b2cal_caf.executions import StepRun, refusal
from b2cal_caf.forks import exit_code_of, redirect_output
from b2cal_caf.splitting import split

CHECKPOINTS = ("init", "collector_completed", "completed")
MAX_ITERATIONS = 5
PAUSE = "FAKE_BASF2_PAUSE"
"""Calibration, state and iteration in which the fake stops for a test that wants to kill it there."""


def apply_prompt_settings(calibrations, *, files_per_subjob: int | None, max_subjobs: int | None) -> None:
    """Let the command line override how collections are split."""
    for calibration in calibrations:
        for collection in calibration.collections.values():
            if files_per_subjob is not None:
                collection.max_files_per_job, collection.max_jobs = files_per_subjob, None
            elif max_subjobs is not None:
                collection.max_files_per_job, collection.max_jobs = None, max_subjobs


class StateDatabase:
    """``caf_state.db``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            columns = "name text primary key, state text, checkpoint text, iteration int"
            self._execute(f"CREATE TABLE calibrations ({columns})")

    def rows(self) -> dict[str, tuple[str, str, int]]:
        """Name to state, checkpoint and iteration."""
        return {name: tuple(rest) for name, *rest in self._execute("SELECT * FROM calibrations")}

    def insert(self, name: str) -> None:
        """Add a calibration."""
        self._execute("INSERT INTO calibrations VALUES (?, 'init', 'init', 0)", name)

    def update(self, name: str, column: str, value: str | int) -> None:
        """Change one value, with three attempts."""
        for attempt in range(3):
            try:
                self._execute(f"UPDATE calibrations SET {column}=? WHERE name=?", value, name)  # noqa: S608
            except sqlite3.OperationalError:
                if attempt == 2:
                    raise
            else:
                return

    def _execute(self, statement: str, *values: Any) -> list[Any]:
        connection = sqlite3.connect(self._path, timeout=30.0, isolation_level=None)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


class FakeCaf:
    """All calibrations of one working directory."""

    def __init__(self, calibrations: list[Calibration], args: Any, config: dict[str, Any]) -> None:
        self.calibrations = calibrations
        self.results = Path("calibration_results").absolute()
        self.heartbeat = args.heartbeat
        self.config = config
        self._backend = args.backend, getattr(args, "max_processes", 1)
        self.database: StateDatabase | None = None
        self.machines: dict[str, Machine] = {}

    def directory(self, calibration: Calibration) -> Path:
        """Everything of one calibration."""
        return self.results / calibration.name

    def states(self) -> dict[str, str]:
        """Where the calibrations stand."""
        return {name: machine.state for name, machine in self.machines.items()}

    def run(self) -> None:
        """Run, or go on from the checkpoints, until nothing can go on."""
        self.results.mkdir(parents=True, exist_ok=True)
        self.database = StateDatabase(self.results / "caf_state.db")
        backend = Backend(*self._backend)
        known = self.database.rows()
        for calibration in self.calibrations:
            if calibration.name not in known:
                self.database.insert(calibration.name)
            _, checkpoint, iteration = known.get(calibration.name, ("init", "init", 0))
            self.machines[calibration.name] = Machine(calibration, self, backend, iteration)
            self.machines[calibration.name].restore(checkpoint)
        while not all(machine.is_over() for machine in self.machines.values()):
            for machine in self.machines.values():
                machine.step()
            time.sleep(max(self.heartbeat, 0.02))
        for name, state in self.states().items():
            log("INFO", f"{name}: {state}")

    def upstream(self, calibration: Calibration) -> list[Calibration]:
        """All it depends on, of those that the script returned, nearest last."""
        found: list[Calibration] = []
        for other in calibration.dependencies:
            if other in self.calibrations:
                found += [c for c in [*self.upstream(other), other] if c not in found]
        return found


@dataclass
class Machine:
    """The state machine of a calibration."""

    calibration: Calibration
    caf: FakeCaf
    backend: Backend
    iteration: int
    state: str = "init"
    jobs: list[Job] | None = None

    @property
    def directory(self) -> Path:
        """The present iteration."""
        return self.caf.directory(self.calibration) / str(self.iteration)

    @property
    def output(self) -> Path:
        """What the algorithms write."""
        return self.directory / "algorithm_output"

    def is_over(self) -> bool:
        """Whether it has ended, or can never start."""
        states = self.caf.states()
        failed = any(states[other.name] == "failed" for other in self.caf.upstream(self.calibration))
        return self.state in {"completed", "failed"} or failed

    def restore(self, checkpoint: str) -> None:
        """Go back to the checkpoint; iterations beyond it are deleted."""
        for path in self.caf.directory(self.calibration).glob("[0-9]*"):
            if int(path.name) > self.iteration:
                shutil.rmtree(path)
        self.move(checkpoint)

    def move(self, state: str) -> None:
        """Enter a state."""
        self.state = state
        self.caf.database.update(self.calibration.name, "state", state)
        if state in CHECKPOINTS:
            self.caf.database.update(self.calibration.name, "checkpoint", state)
        log("INFO", f"Calibration Machine {self.calibration.name} moved to state {state}")
        if os.environ.get(PAUSE) == f"{self.calibration.name} {state} {self.iteration}":
            Path("paused").touch()
            time.sleep(1000)

    def step(self) -> None:
        """Go on, if it can."""
        if self.state == "init":
            states = self.caf.states()
            if all(states[other.name] == "completed" for other in self.caf.upstream(self.calibration)):
                self.submit_collector()
        elif self.state == "running_collector":
            self.look_at_collector()
        elif self.state == "collector_completed":
            self.run_algorithms()

    def submit_collector(self) -> None:
        """Submit a job for every collection, and write down what was submitted."""
        self.jobs = []
        chain = [str(path) for path in self.chain()]
        for name, collection in self.calibration.collections.items():
            job = self.job_of(name, collection, chain)
            shutil.rmtree(job.directory, ignore_errors=True)
            place = self.directory / "collector_input" / name
            place.mkdir(parents=True, exist_ok=True)
            local = [{"type": "local", "path": path} for path in chain]
            tags = [{"type": "central", "tag": tag} for tag in self.caf.config["database_chain"]]
            (place / "collector_config.json").write_text(json.dumps({"database_chain": [*tags, *local]}))
            self.backend.submit(job)
            job.dump(place / "collector_job.json")
            self.jobs.append(job)
        self.move("running_collector")

    def job_of(self, name: str, collection: Collection, chain: list[str]) -> Job:
        """The job of a collection, split into sub-jobs."""
        ignored = set(self.calibration.ignored_runs or ())
        files = [(path, run) for path, run in collection.input_files.items() if run not in ignored]
        groups = split(files, max_files_per_job=collection.max_files_per_job, max_jobs=collection.max_jobs)
        subjobs = []
        for group in groups:
            listed = [
                {"path": str(p), "exp": r.exp, "run": r.run, "events": collection.collector.count(p)} for p, r in group
            ]
            described = {"collector": describe(collection.collector), "files": listed, "databases": chain}
            subjobs.append({"files": [str(path) for path, _ in group], "description": described})
        title = f"{self.calibration.name}_{name}_Iteration_{self.iteration}"
        return Job(title, self.directory / "collector_output" / name, subjobs)

    def look_at_collector(self) -> None:
        """Go on when every sub-job of every collection has ended."""
        codes = [job.codes() for job in self.jobs]
        if any(found is None for found in codes):
            return
        if any(any(found) for found in codes):
            log("ERROR", f"Collector of {self.calibration.name} failed")
            self.move("collector_failed")
            self.move("failed")
        else:
            self.move("collector_completed")

    def run_algorithms(self) -> None:
        """Run the algorithms one after another; the first that fails stops the rest."""
        jobs = self.recovered_jobs() if self.jobs is None else self.jobs
        for job in jobs:
            for number in job.lacks_output():
                log("ERROR", f"No output files from Collector SubJob({job.name}_{number})")
                self.move("failed")
                return
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir(parents=True)
        self.move("running_algorithms")
        iterates = False
        for step in self.calibration.steps:
            report = self.run_step(step, jobs)
            if report is None:
                self.move("algorithms_failed")
                self.move("failed")
                return
            iterates |= report["iterate"]
        self.move("algorithms_completed")
        self.iterate_or_finish(iterates=iterates)

    def recovered_jobs(self) -> list[Job]:
        """The jobs as they were written down."""
        jobs = []
        for file in sorted(self.directory.glob("collector_input/*/collector_job.json")):
            read = json.loads(file.read_text())
            jobs.append(Job(read["name"], Path(read["output_dir"]), read["subjobs"]))
        return jobs

    def run_step(self, step: Any, jobs: list[Job]) -> dict[str, Any] | None:
        """Run one algorithm in a forked process; its report, or ``None`` when it failed."""
        run = StepRun(
            step=step,
            label=step.algorithm.name,
            files={
                job.directory.name: [job.subjob(n) / "CollectorOutput.root" for n in range(len(job.subjobs))]
                for job in jobs
            },
            databases=self.chain(),
            ignored=frozenset(self.calibration.ignored_runs or ()),
            requested_iov=None,
            iteration=self.iteration,
            output=self.output,
        )
        child = os.fork()
        if child == 0:
            redirect_output(run.log_file, run.log_file)
            os.chdir(self.output)
            os._exit(exit_code_of(run.run))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code != 0 or not run.report_file.exists():
            log("ERROR", f"Strategy of {self.calibration.name}, {run.label} ended with exit code {code}")
            return None
        report = json.loads(run.report_file.read_text())
        refused = refusal(report)
        if refused is not None:
            log("WARNING", f"Failed results found in {self.calibration.name}: {refused[0]}")
            return None
        return report

    def iterate_or_finish(self, *, iterates: bool) -> None:
        """Go round again if an algorithm asks for it and may; else copy the last database."""
        limit = MAX_ITERATIONS if self.calibration.max_iterations is None else self.calibration.max_iterations
        if iterates and self.iteration < limit:
            self.iteration += 1
            self.move("init")
            self.caf.database.update(self.calibration.name, "iteration", self.iteration)
            return
        if iterates:
            log("INFO", f"Reached maximum number of iterations ({limit}), will complete now.")
        target = self.caf.directory(self.calibration) / "outputdb"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.output / "outputdb", target)
        self.move("completed")

    def chain(self) -> tuple[Path, ...]:
        """Local databases, first match wins: the previous iteration, then dependencies, later ones first."""
        previous = self.caf.directory(self.calibration) / str(self.iteration - 1) / "algorithm_output" / "outputdb"
        others = [self.caf.directory(other) / "outputdb" for other in reversed(self.caf.upstream(self.calibration))]
        return (*([previous] if self.iteration else []), *others)
