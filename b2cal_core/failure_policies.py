"""What is done about a sub-job that failed: decided by its cause, as the campaign's manager set it.

Only what may go better next time is tried again. An error of the physics code is never tried again blindly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from b2cal_core.errors import ConfigurationError, reasons_of
from b2cal_core.jobs import Cause

_LONGEST_PAUSE = 600.0


class Resort(StrEnum):
    """What is left when a job was tried often enough."""

    ask = "ask"
    """The collection fails once its other sub-jobs are through, and says who can do what."""
    exclude = "exclude"
    """The input file at fault is left out, within the tolerance; else as ``ask``."""
    wait = "wait"
    """The job stays where it is until a person acts."""


class CausePolicy(BaseModel):
    """What is done about one cause.

    Attributes:
        attempts: how often a job is tried again for this cause.
        pause: seconds before it is; twice as many each time, ten minutes at most.
        grow: factor on the limit that was too low, of memory or time, each time.
        elsewhere: not on a machine where the job failed before.
        then: what is done when all that did not help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(default=0, ge=0, le=100)
    pause: float = Field(default=0.0, ge=0.0)
    grow: float = Field(default=1.0, ge=1.0)
    elsewhere: bool = False
    then: Resort = Resort.ask


_DEFAULTS: Mapping[Cause, CausePolicy] = {
    Cause.code: CausePolicy(),
    Cause.killed: CausePolicy(attempts=2, elsewhere=True),
    Cause.memory: CausePolicy(attempts=3, grow=2.0),
    Cause.time: CausePolicy(attempts=2, grow=2.0),
    Cause.output: CausePolicy(attempts=2),
    Cause.input: CausePolicy(attempts=1, pause=5.0, then=Resort.exclude),
    Cause.disk: CausePolicy(),
    Cause.node: CausePolicy(attempts=5, elsewhere=True),
    Cause.start: CausePolicy(attempts=2, pause=5.0, elsewhere=True),
    Cause.held: CausePolicy(then=Resort.wait),
    Cause.cancelled: CausePolicy(),
    Cause.batch: CausePolicy(attempts=100, pause=1.0),
}


class FailurePolicy(BaseModel):
    """What is done about each cause.

    Attributes:
        causes: those that are handled otherwise than by default.
        tolerance: share of a collection's input files, from 0 to 1, that may be left out because they cannot be read.
        memory_limit: MB; no job is given more, however often it ran out of memory.
        time_limit: seconds, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    causes: Mapping[Cause, CausePolicy] = Field(default_factory=dict)
    tolerance: float = Field(default=0.0, ge=0.0, le=1.0)
    memory_limit: int = Field(default=16_000, gt=0)
    time_limit: int = Field(default=7 * 24 * 3600, gt=0)

    @model_validator(mode="after")
    def _resorts_fit(self) -> Self:
        for cause, policy in self.causes.items():
            if policy.then is Resort.wait and cause is not Cause.held:
                raise ValueError(f"only held jobs can wait for a person, not one that failed: {cause}")
            if policy.then is Resort.exclude and cause is not Cause.input:
                raise ValueError(f"an input file is left out only when it cannot be read, not for {cause}")
        return self

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str) -> Self:
        """The policy in a mapping read from ``source``; ``ConfigurationError`` says which key is wrong and why."""
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise ConfigurationError(f"{source} is no failure policy: {reasons_of(error)}") from error

    def of(self, cause: Cause) -> CausePolicy:
        """What is done about a cause."""
        return self.causes.get(cause, _DEFAULTS[cause])

    def tolerates(self, excluded: int, files: int) -> bool:
        """Whether so many of a collection's files may be left out."""
        return excluded <= self.tolerance * files

    def overridden(self, other: "FailurePolicy") -> "FailurePolicy":
        """This policy with all that was set in another one, cause by cause."""
        causes = {**self.causes, **other.causes}
        given = {name: getattr(other, name) for name in other.model_fields_set - {"causes"}}
        return self.model_copy(update={**given, "causes": causes})


@dataclass(frozen=True, slots=True)
class Trial:
    """What a job is given for its next attempt: MB, seconds of wall time (or none), and machines to keep away from."""

    memory: int
    seconds: int | None = None
    avoid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Again:
    """Try it again so many seconds from now."""

    trial: Trial
    pause: float


def decide(policy: FailurePolicy, cause: Cause, *, before: int, trial: Trial, host: str) -> Again | Resort:
    """What is done about a job that failed.

    Args:
        policy: that of the calibration.
        cause: why it failed this time.
        before: how often it was tried again for this cause already.
        trial: what it was given.
        host: the machine it ran on; empty when that is not known.
    """
    wanted = policy.of(cause)
    if before >= wanted.attempts or not _can_grow(policy, cause, trial, wanted):
        return wanted.then
    avoid = {*trial.avoid, host} - {""} if wanted.elsewhere else trial.avoid
    return Again(
        Trial(
            memory=_grown(trial.memory, wanted.grow, policy.memory_limit) if cause is Cause.memory else trial.memory,
            seconds=_grown(trial.seconds, wanted.grow, policy.time_limit)
            if cause is Cause.time and trial.seconds is not None
            else trial.seconds,
            avoid=tuple(sorted(avoid)),
        ),
        pause=min(wanted.pause * 2**before, _LONGEST_PAUSE),
    )


def _can_grow(policy: FailurePolicy, cause: Cause, trial: Trial, wanted: CausePolicy) -> bool:
    """Whether a job that has all there is could get more; with the same again it would fail again."""
    if wanted.grow == 1.0:
        return True
    if cause is Cause.memory:
        return trial.memory < policy.memory_limit
    return cause is not Cause.time or trial.seconds is None or trial.seconds < policy.time_limit


def _grown(value: int, factor: float, limit: int) -> int:
    return max(value, min(round(value * factor), limit))
