"""Production of cDST files: one batch job per raw file, and none for a file whose raw data and constants are unchanged.

The entry point of the jobs is named by the deployment. It is called with the job's directory, in which
``cdst_job.json`` holds ``input``, ``output``, ``exp``, ``run``, ``tag`` and ``databases`` (directories, the first has
the highest priority). When its module has ``READS``, only payloads of these names matter; its ``MEMORY`` is what a job
is given, in MB. Beside every cDST file lies a record, ``.<name>.json``, of what it was made from.
"""

import hashlib
import importlib
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.collector_identity import code_hash
from b2cal_caf.conditions import ChainContent
from b2cal_caf.constants import ConstantsSource
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.locks import request_lock
from b2cal_caf.root_files import open_root, root_damage
from b2cal_core.errors import BackendError
from b2cal_core.failure_policies import Trial
from b2cal_core.ports import BatchBackend, CafObserver, CdstProducer, CdstRequest, CdstResult, ConditionsDB
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord
from resources.caf.cdst_jobs import CdstJobs, CdstTask

DESCRIPTION = "cdst_job.json"
_MEMORY = 2000


class EmbeddedCdst(CdstProducer):
    """Makes cDST files by batch jobs.

    Args:
        batch: where the jobs run.
        conditions: where the tags of a chain are; without it a chain may name testing payload storages only.
        module: entry point of the jobs.
    """

    def __init__(self, batch: BatchBackend, conditions: ConditionsDB | None, module: str) -> None:
        self._batch = batch
        self._constants = ConstantsSource(conditions)
        self._module = module
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Make a ``produce`` in another thread end soon, its jobs cancelled."""
        self._cancelled.set()

    def produce(self, request: CdstRequest, observer: CafObserver) -> CdstResult:
        """Make what is missing.

        Raises:
            DataError: a job failed for good; what was made is kept.
            BackendError: the batch system failed, or the production was cancelled; asking again resumes.
        """
        started = time.monotonic()
        self._cancelled.clear()
        directory = request.directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        with request_lock(directory, log=observer.log, check=self._check):
            rejected: dict[str, str] = {}
            tasks = self._tasks(replace(request, directory=directory), observer, rejected)
            missing = [task for task in tasks if task.made() is None]
            jobs = CdstJobs(
                batch=self._batch,
                module=self._module,
                policy=request.failure_policy,
                priority=request.priority,
                observer=observer,
                record=_record,
                cached=len(tasks) - len(missing),
                check=self._check,
            )
            jobs.run(missing)
            made = {(task.run, task.raw.path): task.made() for task in tasks}
        return CdstResult(
            runs=tuple(_with_cdst(record, made) for record in request.runs),
            rejected=rejected,
            seconds=time.monotonic() - started,
            jobs=len(missing),
            cached=len(tasks) - len(missing),
        )

    def _tasks(self, request: CdstRequest, observer: CafObserver, rejected: dict[str, str]) -> list[CdstTask]:
        """One task per raw file that can be used."""
        raw = [(record.run, file) for record in request.runs for file in record.files if file.data_format == "raw"]
        wanted = list({(run, file.path): (run, file) for run, file in raw}.values())
        if not wanted:
            return []
        databases = self._databases(request, IoV.spanning(run for run, _ in wanted))
        module = importlib.import_module(self._module)
        present = {name for directory in databases for name in LocalDatabase(directory).names()}
        names = sorted(getattr(module, "READS", present))
        content = ChainContent(databases)
        code = code_hash(module)
        constants: dict[ExpRun, str] = {}
        outputs: dict[Path, str] = {}
        tasks = []
        for run, file in wanted:
            reason = _why_not(file) or _twin(outputs, _output(request.directory, run, file), file)
            if reason is not None:
                rejected[file.path] = reason
                observer.log(f"raw file {file.path} is left out: {reason}")
                continue
            if run not in constants:
                constants[run] = content.identity(names, run)
            tasks.append(
                self._task(request.directory, run, file, made_with=[code, constants[run]], databases=databases)
            )
        return tasks

    def _task(
        self, directory: Path, run: ExpRun, file: DataFile, *, made_with: Sequence[str], databases: Sequence[Path]
    ) -> CdstTask:
        identity = [self._module, *made_with, str(run), file.tag, file.path, str(file.size), file.checksum]
        key = hashlib.sha256("\n".join(identity).encode()).hexdigest()
        output = _output(directory, run, file)
        trial = Trial(getattr(importlib.import_module(self._module), "MEMORY", _MEMORY))
        task = CdstTask(run, file, output, directory / "jobs" / key[:32], key, trial)
        if task.made() is None:
            described = {"input": file.path, "output": str(output), "exp": run.exp, "run": run.run, "tag": file.tag}
            write_json(task.directory / DESCRIPTION, {**described, "databases": [str(path) for path in databases]})
        return task

    def _databases(self, request: CdstRequest, within: IoV) -> tuple[Path, ...]:
        """The chain as local databases; the tags are exported anew when their content changed."""
        identity = self._constants.identity(request.database_chain, within=within)
        exported, note = request.directory / "constants", request.directory / "constants.json"
        if read_json(note) != {"identity": identity}:
            shutil.rmtree(exported, ignore_errors=True)
        databases = self._constants.provide(request.database_chain, exported, within=within)
        write_json(note, {"identity": identity})
        return databases

    def _check(self) -> None:
        if self._cancelled.is_set():
            msg = "the cDST production was cancelled; asking again resumes it"
            raise BackendError(msg, transient=False)


def _output(directory: Path, run: ExpRun, file: DataFile) -> Path:
    return directory / f"e{run.exp:04d}" / f"r{run.run:05d}" / file.tag / "cdst" / Path(file.path).name


def _why_not(file: DataFile) -> str | None:
    """Why the raw file cannot be used."""
    if file.events == 0:
        return "it holds no events"
    try:
        return root_damage(Path(file.path))
    except FileNotFoundError:
        return "it does not exist"


def _twin(outputs: dict[Path, str], output: Path, file: DataFile) -> str | None:
    """Why the file cannot be used beside the others: its output would overwrite that of another."""
    first = outputs.setdefault(output, file.path)
    return None if first == file.path else f"its cDST file would have the name of that of {first}"


def _record(task: CdstTask) -> None:
    """Write down what was made; only then does the file count."""
    with open_root(task.output) as root:
        events = int(root["tree"].num_entries)
    content = task.output.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    made = DataFile(str(task.output), task.raw.tag, "cdst", events, size=len(content), checksum=checksum)
    write_json(task.record, {"key": task.key, "file": asdict(made)})


def _with_cdst(record: RunRecord, made: dict[tuple[ExpRun, str], DataFile | None]) -> RunRecord:
    files = (made.get((record.run, file.path)) for file in record.files)
    return replace(record, files=tuple(file for file in files if file is not None))
