"""The options of ``b2caf-prompt-run``, and which batch system takes which."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from b2cal_core.errors import ConfigurationError

BACKENDS = ("Local", "LSF", "PBS", "HTCondor")
_BATCH = frozenset({"LSF", "PBS", "HTCondor"})
_TAKEN_BY: Mapping[str, frozenset[str]] = {
    "max_processes": frozenset({"Local"}),
    "queue": frozenset({"LSF", "PBS"}),
    "getenv": frozenset({"HTCondor"}),
    "universe": frozenset({"HTCondor"}),
    "path_prefix": frozenset({"HTCondor"}),
    "global_job_limit": _BATCH,
    "submission_check_heartbeat": _BATCH,
}
"""Options that not every batch system takes."""
_SPLITTING = {"max_files_per_job": "max_files_per_subjob", "max_jobs": "max_subjobs"}
"""What a request may say of splitting, and the option for it."""


@dataclass(frozen=True, slots=True)
class Basf2Options:
    """The options of the tool; ``None`` leaves one to the tool's own default.

    Attributes:
        max_processes: jobs at the same time, for Local.
        global_job_limit: jobs of the user, all together, beyond which none is submitted.
        submission_check_heartbeat: seconds between two looks whether there is room below that limit.
        heartbeat: seconds between two looks of the tool at its jobs; by default it takes 60.
        max_files_per_subjob: overrides the script's splitting; exclusive with ``max_subjobs``.
        log_level: below INFO the tool does not say the ids of its batch jobs, which are then not withdrawn on
            cancelling.
    """

    max_processes: int | None = None
    queue: str | None = None
    getenv: str | None = None
    universe: str | None = None
    path_prefix: str | None = None
    global_job_limit: int | None = None
    submission_check_heartbeat: int | None = None
    heartbeat: int | None = None
    max_files_per_subjob: int | None = None
    max_subjobs: int | None = None
    log_level: str | None = None
    debug_level: int | None = None

    def arguments(self, backend: str) -> tuple[str, ...]:
        """The options as the command line takes them.

        Raises:
            ConfigurationError: the batch system is unknown or does not take one of them, or splitting is said twice.
        """
        if backend not in BACKENDS:
            msg = f"basf2 knows the batch systems {', '.join(BACKENDS)}, not {backend!r}"
            raise ConfigurationError(msg)
        if self.max_files_per_subjob is not None and self.max_subjobs is not None:
            msg = "sub-jobs are limited by the files in one or by their number, not by both; give one"
            raise ConfigurationError(msg)
        given = {name: value for name, value in asdict(self).items() if value is not None}
        foreign = [name for name in given if backend not in _TAKEN_BY.get(name, BACKENDS)]
        if foreign:
            msg = f"basf2 does not take {', '.join(foreign)} with the batch system {backend}; leave it out"
            raise ConfigurationError(msg)
        return tuple(word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value)))

    def with_request(self, backend_args: Mapping[str, Any]) -> "tuple[Basf2Options, dict[str, Any]]":
        """These options, overridden by what a request says of splitting, and what is left for the batch system."""
        asked = {option: backend_args[key] for key, option in _SPLITTING.items() if backend_args.get(key) is not None}
        left = {key: value for key, value in backend_args.items() if key not in _SPLITTING}
        if not asked:
            return self, left
        cleared = replace(self, max_files_per_subjob=None, max_subjobs=None)
        return replace(cleared, **asked), left
