"""Verdicts of validations, and the rules by which a result is accepted without a person."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce
from itertools import pairwise
from math import isfinite, isnan
from typing import Self

from b2cal_core.errors import ConfigurationError
from b2cal_core.redo import Redo


class Verdict(StrEnum):
    """The machine-readable outcome of a validation."""

    passed = "pass"
    warn = "warn"
    fail = "fail"

    @classmethod
    def worst(cls, verdicts: Iterable["Verdict"]) -> "Verdict":
        """The most severe of them; ``pass`` when there is none."""
        severity = [cls.passed, cls.warn, cls.fail]
        return max(verdicts, key=severity.index, default=cls.passed)


@dataclass(frozen=True, slots=True)
class Threshold:
    """The closed intervals in which a figure passes, and in which it at least warns; ``None`` is no bound.

    Raises:
        ConfigurationError: the bounds are not in the order low_fail, low_warn, high_warn, high_fail.
    """

    low_fail: float | None = None
    low_warn: float | None = None
    high_warn: float | None = None
    high_fail: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        if not all(low <= high for low, high in pairwise(given.values())) or any(map(isnan, given.values())):
            shown = ", ".join(f"{name} {value}" for name, value in given.items())
            raise ConfigurationError(f"the bounds of a threshold must not fall from low_fail to high_fail, got {shown}")

    def grade(self, value: float) -> Verdict:
        """Pass inside the warn bounds, warn between warn and fail bounds, fail outside or when not finite."""
        if not isfinite(value) or _outside(value, self.low_fail, self.high_fail):
            return Verdict.fail
        return Verdict.warn if _outside(value, self.low_warn, self.high_warn) else Verdict.passed

    @classmethod
    def from_json(cls, bounds: Mapping[str, float | None]) -> Self:
        """The threshold written as a mapping of its field names; ``ConfigurationError`` when there are others."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(bounds) - set(known))
        if unknown:
            raise ConfigurationError(f"a threshold has the bounds {', '.join(known)}, not {', '.join(unknown)}")
        return cls(**bounds)


def _outside(value: float, low: float | None, high: float | None) -> bool:
    return (low is not None and value < low) or (high is not None and value > high)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of merit: its value, unit and threshold, and what it tells."""

    name: str
    value: float
    threshold: Threshold
    unit: str = ""
    description: str = ""

    @property
    def verdict(self) -> Verdict:
        """The grade of the value."""
        return self.threshold.grade(self.value)

    def with_threshold(self, threshold: Threshold | None) -> "Figure":
        """The same figure judged by another threshold, or as it is when there is none."""
        return self if threshold is None else replace(self, threshold=threshold)


RULE_AUTHOR = "rule:"
"""How the author of an automatic decision begins."""


class Decision(StrEnum):
    """What was decided over a result."""

    accepted = "accepted"
    rejected = "rejected"
    waived = "waived"


@dataclass(frozen=True, slots=True)
class SignOff:
    """One decision, as the append-only log keeps it.

    Attributes:
        subject: campaign, bucket key and calibration name.
        author: the person, or ``rule:<name>`` for an automatic decision.
        evidence: identity of what was judged, for payloads their content hash; a decision over other content does
            not count.
        deputy_of: the expert for whom the author decided as a deputy.
        until: when a waiver ends, excluded.
        figure: the only figure that a waiver is about; empty for the whole verdict.
        redo: what a rejection asks to be done otherwise.
    """

    campaign: str
    bucket: str
    calibration: str
    decision: Decision
    author: str
    reason: str
    evidence: str
    when: datetime
    deputy_of: str = ""
    until: datetime | None = None
    figure: str = ""
    redo: Redo | None = None

    def __post_init__(self) -> None:
        if (self.decision is Decision.waived) != (self.until is not None):
            raise ConfigurationError(f"a waiver, and nothing else, has an end; {self.decision} has {self.until}")
        if self.redo is not None and self.decision is not Decision.rejected:
            raise ConfigurationError(f"only a rejection says what to do otherwise, not what is {self.decision}")

    @property
    def subject(self) -> tuple[str, str, str]:
        """What was decided over."""
        return self.campaign, self.bucket, self.calibration

    @property
    def by_rule(self) -> bool:
        """Whether a rule decided, and no person."""
        return self.author.startswith(RULE_AUTHOR)

    @property
    def terms(self) -> dict[str, str]:
        """What only some decisions have, in words."""
        terms = {
            "as deputy of": self.deputy_of,
            "until": f"{self.until:%Y-%m-%d %H:%M} UTC" if self.until is not None else "",
            "figure": self.figure,
            "to be redone": self.redo.in_words() if self.redo is not None else "",
        }
        return {name: text for name, text in terms.items() if text}

    def has_ended(self, now: datetime) -> bool:
        """Whether it is a waiver that lets nothing through any more."""
        return self.until is not None and now >= self.until


class SignOffRule(StrEnum):
    """When a result is accepted without a person: never, when all figures pass, or when none fails."""

    manual = "manual"
    all_pass = "all_pass"  # noqa: S105 (a rule, not a password)
    none_fail = "none_fail"

    def accepts(self, verdict: Verdict) -> bool:
        """Whether a result with this verdict is accepted by the rule alone."""
        if self is SignOffRule.manual:
            return False
        return verdict is Verdict.passed or (self is SignOffRule.none_fail and verdict is Verdict.warn)


def standing(decisions: Iterable[SignOff], evidence: str) -> SignOff | None:
    """The decision that stands for this content, if any: the last one logged over the same evidence.

    A rule never overrides a person, however late it decides. A waiver does not stand, since it ends; but a person who
    waives what was accepted takes the acceptance back, so that the end of the waiver is an end.
    """
    over_it = [decision for decision in decisions if decision.evidence == evidence]
    by_person: SignOff | None = None
    for decision in over_it:
        if decision.decision is not Decision.waived:
            by_person = by_person if decision.by_rule else decision
        elif by_person is not None and by_person.decision is Decision.accepted:
            by_person = None
    by_rule = (decision for decision in reversed(over_it) if decision.by_rule)
    return by_person or next(by_rule, None)


def redo_in_force(decisions: Iterable[SignOff]) -> Redo:
    """What is done otherwise whenever a result is made again: what its rejections asked for, one after the other.

    A person who accepts what was rejected takes back what was asked for.

    Args:
        decisions: over one calibration and bucket, in the order they were logged.
    """
    asked: list[tuple[str, Redo]] = []
    for decision in decisions:
        if decision.decision is Decision.accepted and not decision.by_rule:
            asked = [(evidence, redo) for evidence, redo in asked if evidence != decision.evidence]
        elif decision.redo is not None:
            asked.append((decision.evidence, decision.redo))
    return reduce(Redo.then, (redo for _, redo in asked), Redo())
