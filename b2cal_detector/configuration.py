"""What experts may configure in a calibration script: checked values with defaults."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun

Boundary = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

JOB_MEMORY = 1000
"""MB for a collector job: Python with its libraries takes some hundred, events are few at a time."""


class ExpertConfig(BaseModel):
    """Keys that every script has; each script adds its own.

    Attributes:
        max_files_per_run: files of each run that are read, the first ones; -1 for all.
        max_events_per_run: files of a run are added until it has so many events; -1 for all.
        max_jobs: collector jobs per collection.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_files_per_run: int = Field(default=-1, ge=-1)
    max_events_per_run: int = Field(default=-1, ge=-1)
    max_jobs: Count = 2

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The defaults as JSON holds them, for ``settings.expert_config``."""
        return cls().model_dump(mode="json")

    @classmethod
    def read(cls, given: Mapping[str, Any], calibration: str) -> Self:
        """The checked configuration; ``ConfigurationError`` says which key is wrong and what it may be."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors())
            msg = (
                f"expert_config of {calibration} cannot be used: {wrong}; known keys are {', '.join(cls.model_fields)}"
            )
            raise ConfigurationError(msg) from error


class BoundedConfig(ExpertConfig):
    """Keys of scripts whose experts may say where payloads change.

    Attributes:
        payload_boundaries: first runs, ``[experiment, run]``, of further intervals; empty for one payload.
    """

    payload_boundaries: list[Boundary] = []

    @property
    def boundaries(self) -> tuple[ExpRun, ...]:
        """The boundaries as runs."""
        return tuple(ExpRun(*pair) for pair in self.payload_boundaries)
