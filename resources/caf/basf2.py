"""basf2's own CAF behind the port ``Caf``, driven through ``b2caf-prompt-run``.

Of the tool nothing is assumed but its documented interface: two JSON files in, its options, the state database and the
layout of its directories, its exit code.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import write_atomically, write_json
from b2cal_caf.constants import ConstantsSource
from b2cal_caf.input_files import file_identity
from b2cal_caf.job_failures import in_words
from b2cal_caf.layout import RequestLayout
from b2cal_caf.local_database import TEXT_FILE
from b2cal_caf.locks import request_lock
from b2cal_caf.results import read_result, write_result
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.failure_policies import FailurePolicy
from b2cal_core.ports import Caf, CafObserver, CafRequest, CafResult, ConditionsDB
from resources.caf.basf2_batch import withdraw_jobs
from resources.caf.basf2_catalogue import show_settings
from resources.caf.basf2_environment import Basf2Environment, read_end
from resources.caf.basf2_inputs import OfferedInputs, keep_inputs, kept_inputs, offer_inputs, requested_files
from resources.caf.basf2_options import Basf2Options
from resources.caf.basf2_outcome import TOOL, Outcome
from resources.caf.basf2_process import ScriptProcess, read_process, start_script, write_process
from resources.caf.basf2_progress import Progress
from resources.caf.basf2_task import Basf2Task

_FORMAT = 1
"""Raised when the adapter changes such that finished requests must be done again."""
_END_SECONDS = 0.1
"""How long the end of the tool, or that somebody cancelled, may be overlooked."""


class Basf2Caf(Caf):
    """Runs the calibration scripts of a basf2 release with the release's own CAF.

    The tool imports the script from the release, by its name alone; of ``CafRequest.script`` only that counts, and the
    content, if the file is there, for knowing whether a request has changed. A database chain holds global tags, which
    basf2 reads from the conditions database that its environment names (``BELLE2_CONDB_SERVERLIST``).

    The tool takes every ``*.root`` below a directory. Files that are all there is in a directory are given by it; of
    others, it is given a directory of links in the request's directory, which batch machines must be able to see.

    Args:
        environment: of the release.
        backend: ``Local``, ``LSF``, ``PBS`` or ``HTCondor``.
        options: of the tool.
        conditions: where the content of tags is looked up, so that a request is done again when it has changed;
            without it only their names count.
        script_name: how the tool is told the script; by default its file name.
        poll_seconds: between two looks at the state database and the sub-jobs.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        environment: Basf2Environment,
        backend: str = "Local",
        options: Basf2Options | None = None,
        *,
        conditions: ConditionsDB | None = None,
        script_name: Callable[[Path], str] = lambda script: script.name,
        poll_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment = environment
        self._backend = backend
        self._options = options or Basf2Options()
        self._options.arguments(backend)
        self._conditions = conditions
        self._script_name = script_name
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._cancelled = threading.Event()

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        """Run, or resume, the request."""
        self._cancelled.clear()
        layout = RequestLayout(request.directory.absolute())
        layout.directory.mkdir(parents=True, exist_ok=True)
        with request_lock(layout.directory, log=observer.log, check=self._check):
            identity = self._identity(request)
            done = read_result(layout.result, identity)
            if done is not None:
                observer.log(f"everything in {layout.directory} was done before, with the same inputs")
                return done
            try:
                return self._work(Basf2Task(request, layout, identity, observer))
            except OSError as error:
                raise in_words(error, layout) from error

    def cancel(self) -> None:
        """End a ``run`` in another thread, with the tool and its batch jobs."""
        self._cancelled.set()

    def _work(self, task: Basf2Task) -> CafResult:
        progress = Progress(task.layout, task.observer, task.stdout, self._clock)
        process = self._adopted(task)
        if process is None:
            inputs = self._prepare(task)
            process = self._start(task, progress)
        else:
            inputs = kept_inputs(task.kept_inputs)
        try:
            self._follow(process, progress)
            return self._conclude(task, progress, inputs)
        except BaseException:
            process.stop()
            self._withdraw_jobs(task)
            raise

    def _conclude(self, task: Basf2Task, progress: Progress, inputs: OfferedInputs) -> CafResult:
        """The result of a tool that has ended."""
        end = read_end(task.end)
        if end is None:
            msg = f"{TOOL} was killed from outside; run again, it goes on from its checkpoint"
            raise BackendError(msg, transient=True)
        self._environment.check(end, TOOL, task.stderr)
        outcome = Outcome(
            layout=task.layout,
            end=end,
            rows=progress.rows,
            started=task.is_started(),
            inputs=inputs,
            stdout=task.stdout,
            stderr=task.stderr,
            seconds=progress.seconds,
        )
        result = outcome.result()
        for name, state in result.states.items():
            if state == "skipped":  # basf2 leaves it waiting
                task.observer.state(name, state, result.iterations[name])
        write_result(task.layout.result, result, task.identity)
        task.process.unlink()
        return result

    def _adopted(self, task: Basf2Task) -> ScriptProcess | None:
        """The tool that a predecessor left running on the same inputs; what it left of others is ended."""
        found = read_process(task.process, task.lock)
        if found is None:
            return None
        process, identity = found
        if process is not None:
            if process.is_running() and identity == task.identity:
                task.observer.log(f"{TOOL} started before still runs, as process {process.pid}; waiting for it")
                return process
            process.stop()
        self._withdraw_jobs(task)
        return None

    def _prepare(self, task: Basf2Task) -> OfferedInputs:
        """Write the two files of the request; the script's input names are asked of the release."""
        request, layout = task.request, task.layout
        name = self._script_name(request.script)
        _refuse_storages(request.database_chain)
        settings = show_settings(self._environment, name, check=self._check)
        missing = sorted(set(settings.input_data_names) - set(request.input_data))
        if missing:
            wanted = ", ".join(sorted(settings.input_data_names))
            msg = f"calibration {settings.name!r} needs the inputs {wanted}; input_data lacks {', '.join(missing)}"
            raise ConfigurationError(msg)
        unknown = sorted(set(request.expert_config) - set(settings.expert_config))
        if unknown:
            task.observer.log(f"expert_config has keys that the script does not declare: {', '.join(unknown)}")
        if request.failure_policy != FailurePolicy():
            task.observer.log("basf2 tries no sub-job again by itself; the failure policy of the campaign is not used")
        inputs = offer_inputs(request, task.links)
        for file, reason in inputs.rejected.items():
            task.observer.log(f"input file {file} is left out: {reason}")
        _, backend_args = self._options.with_request(request.backend_args)
        config = {
            "caf_script": name,
            "database_chain": list(request.database_chain),
            "requested_iov": request.requested_iov.as_tuple(),
            "backend_args": backend_args,
            "expert_config": dict(request.expert_config),
        }
        write_json(layout.config, config, for_people=True)
        write_json(layout.input_data, inputs.as_json(), for_people=True)
        keep_inputs(task.kept_inputs, inputs)
        return inputs

    def _start(self, task: Basf2Task, progress: Progress) -> ScriptProcess:
        layout = task.layout
        command = self._command(task)
        progress.start()
        task.end.unlink(missing_ok=True)
        script = self._environment.script(command, task.end)
        write_atomically(task.script, script.encode())
        process = start_script(task.script, layout.directory, stdout=task.stdout, stderr=task.stderr, lock=task.lock)
        try:
            write_process(task.process, process, task.identity)
            process.go()
        except BaseException:
            process.stop()
            raise
        task.observer.log(f"{TOOL} runs as process {process.pid}; see {task.stdout}")
        return process

    def _command(self, task: Basf2Task) -> Sequence[str]:
        """The command; what is there of other inputs is removed here, and by the tool what that should have missed."""
        layout = task.layout
        options, _ = self._options.with_request(task.request.backend_args)
        command = [TOOL, self._backend, layout.config.name, layout.input_data.name, *options.arguments(self._backend)]
        if task.make_room():
            command.append("--overwrite-working-dir")
        if layout.all_exported.exists():
            command.append("--overwrite-output-db")
        return command

    def _follow(self, process: ScriptProcess, progress: Progress) -> None:
        """Wait for the end of the tool, and tell what it does."""
        looked = -self._poll_seconds
        while process.is_running():
            self._check()
            if time.monotonic() - looked >= self._poll_seconds:
                progress.look()
                looked = time.monotonic()
            self._cancelled.wait(_END_SECONDS)
        self._check()
        process.stop()  # nothing of the group outlives its leader
        progress.look()

    def _withdraw_jobs(self, task: Basf2Task) -> None:
        """Remove what a tool that is gone has left in the batch system; nobody looks after it any more."""
        withdraw_jobs(
            self._backend,
            self._environment,
            output=task.stdout,
            results=task.layout.results,
            observer=task.observer,
        )
        task.process.unlink(missing_ok=True)

    def _check(self) -> None:
        if self._cancelled.is_set():
            msg = "the calibration was cancelled; asking again resumes it"
            raise BackendError(msg, transient=False)

    def _identity(self, request: CafRequest) -> str:
        """A hash of all that the result depends on, as far as it can be seen from outside basf2."""
        options, _ = self._options.with_request(request.backend_args)
        content: dict[str, Any] = {
            "format": [_FORMAT, "basf2"],
            "release": self._environment.setup,
            "script": [self._script_name(request.script), _hash_of(request.script)],
            "requested_iov": request.requested_iov.as_tuple(),
            "expert_config": request.expert_config,
            "splitting": [options.max_files_per_subjob, options.max_subjobs],
            "input_data": {
                name: [_identified(file, str(run)) for file, run in requested_files(pairs)]
                for name, pairs in sorted(request.input_data.items())
            },
            "database_chain": list(request.database_chain),
        }
        if self._conditions is not None:
            constants = ConstantsSource(self._conditions)
            content["constants"] = constants.identity(request.database_chain, within=request.requested_iov)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refuse_storages(chain: Sequence[str]) -> None:
    for entry in chain:
        if "/" in entry or (Path(entry) / TEXT_FILE).is_file():
            msg = f"database_chain names {entry!r}, a storage on disk; {TOOL} takes the names of global tags only"
            raise ConfigurationError(msg)


def _hash_of(script: Path) -> str | None:
    return hashlib.sha256(script.read_bytes()).hexdigest() if script.is_file() else None


def _identified(file: Path, run: str) -> list[str]:
    return [run, file_identity(file, file.stat()) if file.exists() else f"{file} missing"]
