"""What waits for a person, and who is to be reminded of them: the expert, later the deputies, at last the managers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from b2cal_core.deputies import Deciders, Role


class Reminders(BaseModel):
    """After how many hours of waiting whom is reminded; ``None`` is never."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expert: float | None = Field(default=24.0, gt=0)
    deputy: float | None = Field(default=72.0, gt=0)
    manager: float | None = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _ever_later(self) -> Self:
        hours = [value for value in (self.expert, self.deputy, self.manager) if value is not None]
        if any(later < earlier for earlier, later in pairwise(hours)):
            raise ValueError(f"deputies are reminded after experts, managers after deputies; got {hours} hours")
        return self

    def reached(self, waited: timedelta) -> tuple[Role, ...]:
        """Who is to have been reminded by then, in order."""
        levels = {Role.expert: self.expert, Role.deputy: self.deputy, Role.manager: self.manager}
        return tuple(role for role, hours in levels.items() if hours is not None and waited >= timedelta(hours=hours))


@dataclass(frozen=True, slots=True)
class OpenSignOff:
    """A result that waits for a person, or a calibration that lacks data until one has chosen what is done.

    Attributes:
        evidence: identity of what is to be judged; another result is another open sign-off.
            Of a question, when it was asked.
        since: when it was judged by its validation, or the question was asked, in UTC.
        verdict: of the validation; empty for a question.
        question: what is asked where there is nothing to sign off, and the command that answers; else empty.
    """

    campaign: str
    bucket: str
    calibration: str
    evidence: str
    since: datetime
    verdict: str
    deciders: Deciders
    question: str = ""

    def waited(self, now: datetime) -> timedelta:
        """For how long; not less than nothing."""
        return max(now - self.since, timedelta(0))

    def to_act(self, policy: Reminders, now: datetime) -> tuple[str, ...]:
        """Who is to act: the expert, and everybody whose time has come since; the managers when nobody else is."""
        roles = dict.fromkeys([Role.expert, *policy.reached(self.waited(now))])
        named = (name for role in roles for name in self.deciders.named(role, now.date()))
        return tuple(dict.fromkeys(named)) or self.deciders.managers


@dataclass(frozen=True, slots=True)
class Reminder:
    """One reminder that is due; ``key`` is the same whenever it is found again, so that it can be sent once."""

    about: OpenSignOff
    role: Role
    to: tuple[str, ...]

    @property
    def key(self) -> str:
        """Result and level."""
        one = self.about
        return f"{one.campaign}/{one.bucket}/{one.calibration}:reminder:{one.evidence[:16]}:{self.role}"


def due_reminders(waiting: Iterable[OpenSignOff], policy: Reminders, now: datetime) -> tuple[Reminder, ...]:
    """All reminders whose time has come, sent before or not; a level at which nobody is named is passed over."""
    return tuple(reminder for one in waiting for reminder in _of(one, policy, now))


def _of(one: OpenSignOff, policy: Reminders, now: datetime) -> Iterator[Reminder]:
    for role in policy.reached(one.waited(now)):
        to = one.deciders.named(role, now.date())
        if to:
            yield Reminder(one, role, to)
