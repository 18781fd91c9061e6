"""How jobs are described to HTCondor: the lines that all of a cluster share, and an item of values for each job."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from b2cal_core.errors import ConfigurationError
from b2cal_core.jobs import JobSpec
from resources.batch.htcondor_states import MEMORY_SUBCODE

_ROOT = Path(__file__).resolve().parents[2]
"""Where ``resources`` is imported from, which must be on the shared file system, as the Python is."""
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "PATH", "USER")
_NUMERICS = ("MKL_", "NPY_", "OMP_", "OPENBLAS_")
"""How variables begin that decide how numerics are done, and with them the last bits of a result."""
_NEVER_MIND = 10**9
_ELSEWHERE_SECONDS = 300
"""How long a job waits for a machine that it does not avoid; pools negotiate about once a minute."""
_PLAIN = re.compile(r"[^\x00-\x1f\x7f\"'\\$]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HELD_MEMORY = "(ResidentSetSize ?: 0) / 1024"
_OURS = frozenset(
    {
        *("universe", "executable", "arguments", "initialdir", "output", "error", "log", "environment", "max_retries"),
        *("request_memory", "request_cpus", "allowed_execute_duration", "priority"),
        *("periodic_hold", "periodic_hold_reason", "periodic_hold_subcode", "my.b2calkey", "+b2calkey"),
    }
)


def check_lines(lines: Mapping[str, str]) -> None:
    """Refuse lines of a site that would take the place of ours.

    Raises:
        ConfigurationError: the lines, by name.
    """
    taken = sorted(name for name in lines if name.lower() in _OURS)
    if taken:
        raise ConfigurationError(
            f"the lines {', '.join(taken)} of HTCondor's submit description are set for every job and cannot be given;"
            " take them out of the site's configuration"
        )


def check_spec(spec: JobSpec) -> None:
    """Refuse what cannot be written into a submit description.

    Raises:
        ConfigurationError: the value, and what is wrong with it.
    """
    if not spec.directory.is_absolute():
        raise ConfigurationError(f"an HTCondor job needs an absolute directory, got {spec.directory} for {spec.key}")
    for what, value in (("key", spec.key), ("directory", str(spec.directory)), ("collection", spec.collection)):
        if not _PLAIN.fullmatch(value) or value != value.strip():
            raise ConfigurationError(
                f"an HTCondor job's {what} may have no quotes, dollars, backslashes, control characters or spaces at"
                f" its ends, got {value!r}; choose another"
            )
    for host in spec.avoid:
        if not _HOST_NAME.fullmatch(host):
            raise ConfigurationError(f"{host!r}, which job {spec.key} is to avoid, is no name of a machine")


def describe(
    specs: Sequence[JobSpec], *, python: str, log: Path, lease_seconds: int, lines: Mapping[str, str]
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The lines of a cluster and its items, one for each job, in order."""
    description = {
        "universe": "vanilla",
        "executable": python,
        "arguments": "\"-m resources.batch.run_job '$(b2cal_directory)'\"",
        "initialdir": "$(b2cal_directory)",
        "output": "stdout",
        "error": "stderr",
        "log": str(log),
        "transfer_executable": "False",
        "should_transfer_files": "NO",
        "environment": _environment(),
        "request_memory": "$(b2cal_memory)",
        "request_cpus": "$(b2cal_cpus)",
        "priority": "$(b2cal_priority)",
        "periodic_hold": f"{_HELD_MEMORY} > RequestMemory",
        "periodic_hold_reason": _memory_reason(),
        "periodic_hold_subcode": str(MEMORY_SUBCODE),
        "job_lease_duration": str(lease_seconds),
        "job_max_vacate_time": "10",
        "remove_kill_sig": "SIGKILL",  # nobody wants its output any more
        "keep_claim_idle": "20",  # the next link of a chain starts at once instead of waiting for the negotiator
        "notification": "never",
        "batch_name": "$(b2cal_collection)",
        "My.B2calKey": '"$(b2cal_key)"',
        "My.B2calCollection": '"$(b2cal_collection)"',
        **lines,
    }
    if any(spec.seconds is not None for spec in specs):
        description["allowed_execute_duration"] = "$(b2cal_seconds)"
    if any(spec.avoid for spec in specs):
        others = description.get("requirements", "True")
        description["requirements"] = f"({others}) && {_elsewhere()}"  # the same for all jobs of a cluster
        description["My.B2calAvoid"] = '"$(b2cal_avoid)"'
    return description, [_item(spec) for spec in specs]


def _item(spec: JobSpec) -> dict[str, str]:
    return {
        "b2cal_directory": str(spec.directory),
        "b2cal_key": spec.key,
        "b2cal_collection": spec.collection,
        "b2cal_memory": str(spec.memory),
        "b2cal_cpus": str(spec.cpus),
        "b2cal_priority": str(spec.priority),
        "b2cal_seconds": str(_NEVER_MIND if spec.seconds is None else spec.seconds),
        "b2cal_avoid": ",".join(spec.avoid),
    }


def _elsewhere() -> str:
    """Not on a machine that is avoided, unless no other has taken the job for a while: there may be none.

    Machines are given as they call themselves, or by the first part of their names.
    """
    names = "TARGET.Machine", 'split(TARGET.Machine, ".")[0]'
    others = " && ".join(f"!stringListIMember({name}, MY.B2calAvoid)" for name in names)
    return f"(({others}) || time() - MY.QDate > {_ELSEWHERE_SECONDS})"


def _memory_reason() -> str:
    return f'strcat("took ", {_HELD_MEMORY}, " MB of memory, it was given ", RequestMemory, " MB")'


def _environment() -> str:
    """What ``run_job`` needs to be found, and what programs expect; the job's own is in its ``job.json``."""
    passed_on = (name for name in os.environ if name in _PASSED_ON or name.startswith(_NUMERICS))
    values = {name: os.environ[name] for name in passed_on} | {"PYTHONPATH": str(_ROOT)}
    return '"' + " ".join(f"{name}={_quoted(value)}" for name, value in values.items()) + '"'


def _quoted(value: str) -> str:
    doubled = value.replace("'", "''").replace('"', '""').replace("$(", "$(DOLLAR)(")
    return f"'{doubled}'"
