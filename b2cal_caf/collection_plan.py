"""How a collection is split into sub-jobs, and which of them need not be run.

The plan is kept as a file, so that a resumed process splits alike.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.cache_index import CollectorParts, FileParts
from b2cal_caf.calibration import Collection, Collector
from b2cal_caf.collector_cache import CollectorCache, file_key, output_key
from b2cal_caf.collector_identity import code_hash, describe
from b2cal_caf.conditions import ChainContent, constants_identity
from b2cal_caf.input_files import CheckedFiles, InputFile
from b2cal_caf.splitting import split
from b2cal_core.ranges import ExpRun


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One sub-job: its input files with their keys, the name of its output in the cache, and whether it is there."""

    number: int
    files: tuple[InputFile, ...]
    keys: tuple[str, ...]
    output: str
    cached: bool


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """The sub-jobs of a collection in one iteration.

    Attributes:
        identity: equal when collector, files, constants and splitting are.
        collector: as JSON holds it.
        splitting: the most files of a sub-job, or the most sub-jobs, as the collection was split by.
        rejected: file to the reason it cannot be used, those left out on the way included.
    """

    identity: str
    collector: Mapping[str, Any]
    granularity: str
    databases: tuple[Path, ...]
    memory: int
    seconds: int | None
    splitting: tuple[int | None, int | None]
    jobs: tuple[PlannedJob, ...]
    rejected: Mapping[str, str]

    def without(self, files: Mapping[str, str]) -> "CollectionPlan":
        """The plan without some files, each left out for a reason; sub-jobs keep their numbers, and may become empty.

        It is the one that is made for the other files alone, but for how these are grouped.
        """
        jobs = tuple(_without(job, files) for job in self.jobs)
        gone = {str(file.path) for job in self.jobs for file in job.files} & files.keys()
        keys = [key for job in jobs for key in job.keys]
        rejected = {**self.rejected, **{file: files[file] for file in sorted(gone)}}
        return replace(self, jobs=jobs, rejected=rejected, identity=_plan_identity(keys, self.splitting))

    def write(self, path: Path) -> None:
        """Keep it for a later process."""
        write_json(path, _as_json(self))


def plan_collection(
    collection: Collection,
    checked: CheckedFiles,
    *,
    databases: Sequence[Path],
    cache: CollectorCache,
    path: Path,
) -> tuple[CollectionPlan, bool]:
    """The plan, as it was written to ``path`` if that still fits, else a new one that is written there.

    Returns:
        The plan, and whether it is the one that was there.
    """
    described = describe(collection.collector)
    parts, files = _parts(collection.collector, described, checked.usable, databases)
    keys = [file.key for file in files]
    splitting = collection.max_files_per_job, collection.max_jobs
    identity = _plan_identity(keys, splitting)
    written = read_json(path)
    kept = isinstance(written, dict) and written.get("identity") == identity
    jobs = _read_jobs(written, checked.usable, keys) if kept else _new_jobs(collection, checked.usable, keys, cache)
    plan = CollectionPlan(
        identity=identity,
        collector=described,
        granularity=collection.collector.granularity,
        databases=tuple(databases),
        memory=collection.memory,
        seconds=collection.seconds,
        splitting=splitting,
        jobs=jobs,
        rejected=checked.rejected,
    )
    if not kept:
        cache.remember(path, parts, files, used=[job.output for job in jobs if job.cached])
        plan.write(path)
    return plan, kept


def _parts(
    collector: Collector, described: Mapping[str, Any], files: Sequence[InputFile], databases: Sequence[Path]
) -> tuple[CollectorParts, list[FileParts]]:
    """What the collector finds in each file depends on, with the file's key."""
    code = code_hash(type(collector))
    configuration = {"fields": described["fields"], "granularity": collector.granularity}
    identity = _identity([code, {"class": described["class"], **configuration}])
    content = ChainContent(databases)
    constants: dict[ExpRun, tuple[str, Mapping[str, str]]] = {}
    parts = []
    for file in files:
        if (found := constants.get(file.run)) is None:
            checksums = content.checksums(collector.reads, file.run)
            found = constants[file.run] = constants_identity(checksums), checksums
        key = file_key(identity, f"{file.identity} {file.run}", found[0])
        path = str(file.path)
        parts.append(FileParts(key, path, file.run, file.identity[len(path) + 1 :], *found))
    where = Path(described["script"]).name if described["script"] else described["module"]
    return CollectorParts(identity, f"{where}:{described['class']}", code, configuration), parts


def _new_jobs(
    collection: Collection, files: Sequence[InputFile], keys: Sequence[str], cache: CollectorCache
) -> tuple[PlannedJob, ...]:
    """Outputs from the cache where there are some, sub-jobs for the other files; in the order of their first files."""
    place = {key: number for number, key in enumerate(keys)}
    found = [([place[key] for key in parts], output) for output, parts in cache.find(keys)]
    taken = {number for numbers, _ in found for number in numbers}
    missing = [number for number in range(len(files)) if number not in taken]
    groups = split(missing, max_files_per_job=collection.max_files_per_job, max_jobs=collection.max_jobs)
    wanted: list[tuple[Sequence[int], str | None]] = [*found, *((group, None) for group in groups)]
    return tuple(
        PlannedJob(
            number,
            tuple(files[i] for i in group),
            tuple(keys[i] for i in group),
            output=output or output_key(keys[i] for i in group),
            cached=output is not None,
        )
        for number, (group, output) in enumerate(sorted(wanted, key=lambda item: item[0][0]))
    )


def _read_jobs(written: Mapping[str, Any], files: Sequence[InputFile], keys: Sequence[str]) -> tuple[PlannedJob, ...]:
    by_key = dict(zip(keys, files, strict=True))
    return tuple(
        PlannedJob(
            number,
            tuple(by_key[key] for key in job["keys"]),
            tuple(job["keys"]),
            output=job["output"],
            cached=job["cached"],
        )
        for number, job in enumerate(written["subjobs"])
    )


def _as_json(plan: CollectionPlan) -> dict[str, Any]:
    return {
        "identity": plan.identity,
        "collector": plan.collector,
        "granularity": plan.granularity,
        "databases": [str(directory) for directory in plan.databases],
        "rejected": dict(plan.rejected),
        "subjobs": [
            {
                "output": job.output,
                "cached": job.cached,
                "keys": list(job.keys),
                "files": [[str(file.path), *file.run, file.events] for file in job.files],
            }
            for job in plan.jobs
        ],
    }


def _without(job: PlannedJob, files: Mapping[str, str]) -> PlannedJob:
    kept = [(file, key) for file, key in zip(job.files, job.keys, strict=True) if str(file.path) not in files]
    if len(kept) == len(job.files):
        return job
    keys = tuple(key for _, key in kept)
    return replace(job, files=tuple(file for file, _ in kept), keys=keys, output=output_key(keys), cached=False)


def _plan_identity(keys: Iterable[str], splitting: tuple[int | None, int | None]) -> str:
    return _identity([*sorted(keys), *splitting])


def _identity(value: Any) -> str:  # noqa: ANN401 (JSON)
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
