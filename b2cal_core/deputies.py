"""Who may decide over a calibration: its expert, the expert's deputies in their time, and the managers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from b2cal_core.errors import RightsError


class Deputy(BaseModel):
    """A person who decides for an expert, by default at any time; both days belong to the period, in UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    expert: str = Field(min_length=1, description="as the script's expert_username says")
    deputy: str = Field(min_length=1)
    first_day: date | None = None
    last_day: date | None = None

    @model_validator(mode="after")
    def _days_in_order(self) -> Self:
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise ValueError(f"last_day ({self.last_day}) lies before first_day ({self.first_day})")
        return self

    def acts_on(self, day: date) -> bool:
        """Whether the day lies in the period."""
        return (self.first_day is None or self.first_day <= day) and (self.last_day is None or day <= self.last_day)


class Role(StrEnum):
    """What a person is to a calibration, the nearest first."""

    expert = "expert"
    deputy = "deputy"
    manager = "manager"
    other = "other"


@dataclass(frozen=True, slots=True)
class Deciders:
    """Those who may decide over one calibration; names are compared without regard to case.

    Attributes:
        expert: empty when the script names nobody.
        managers: of the campaign, its owner first.
        deputies: of any experts.
    """

    expert: str
    managers: tuple[str, ...] = ()
    deputies: Sequence[Deputy] = ()

    def role(self, person: str, day: date) -> Role:
        """What the person is on that day, in UTC."""
        for role in (Role.expert, Role.deputy, Role.manager):
            if person.casefold() in {name.casefold() for name in self.named(role, day)}:
                return role
        return Role.other

    def named(self, role: Role, day: date) -> tuple[str, ...]:
        """Who has the role on that day; nobody is ``other`` by name."""
        if role is Role.expert:
            return (self.expert,) if self.expert else ()
        if role is Role.deputy:
            return tuple(d.deputy for d in self.deputies if self._is_mine(d) and d.acts_on(day))
        return self.managers if role is Role.manager else ()

    def in_words(self, day: date) -> str:
        """All who may decide on that day, for messages."""
        named = [
            f"{name} ({role})" for role in (Role.expert, Role.deputy, Role.manager) for name in self.named(role, day)
        ]
        return ", ".join(named) or "nobody is named"

    def decides_for(self, person: str, day: date, *, experts_only: bool) -> str:
        """The expert for whom the person decides as a deputy; empty for everybody else who may decide.

        Raises:
            RightsError: only ``experts_only`` do, and the person has no role that day.
        """
        role = self.role(person, day)
        if role is Role.other and experts_only:
            raise RightsError(
                f"{person} may not decide here, only {self.in_words(day)}; ask one of them, or have a manager "
                "name a deputy in the campaign's gates.deputies"
            )
        return self.expert if role is Role.deputy else ""

    def _is_mine(self, deputy: Deputy) -> bool:
        return bool(self.expert) and deputy.expert.casefold() == self.expert.casefold()
