"""What is affected when a constant changes: which steps read which, how far a change spreads, and how it is told.

A campaign's steps are its calibrations, its cDST production, the imports of payloads made outside, and ``base``, what
it found in its base tags. Dependencies are between steps and runs are ranges, so a change spreads over steps: never
over single payloads or files.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.graphs import topological_order
from b2cal_core.local_calibrations import import_name
from b2cal_core.payloads import check_tag_name
from b2cal_core.ranges import IoV
from b2cal_core.settings import Catalogue

BASE = "/base"
"""The step that stands for what the base tags hold; no calibration has a name with an asset name like that."""
CDST = "/cdst"
"""The step that makes cDST files."""
_SAMPLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,119}")


class Runs(Protocol):
    """Runs that are affected: they can be joined, and are false when there are none."""

    def __or__(self, other: Self, /) -> Self:
        """All runs of both."""

    def __bool__(self) -> bool:
        """Whether there is a run."""


_Runs = TypeVar("_Runs", bound=Runs)


@dataclass(frozen=True, slots=True)
class Sample:
    """A simulated sample: made with the constants that a global tag had for a range of runs.

    Raises:
        ConfigurationError: the name is none.
    """

    name: str
    tag: str
    iov: IoV

    def __post_init__(self) -> None:
        check_tag_name(self.tag)
        if not _SAMPLE_NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"a sample is named with letters, digits and _ . - only, at most 120, got {self.name!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"sample": self.name, "tag": self.tag, "iov": list(self.iov)}


@dataclass(frozen=True, slots=True)
class AffectedCells:
    """What one step made of one name and is affected.

    Attributes:
        name: of the payload; ``cDST`` for the files of a production.
        cells: how many links of the tags, or runs with files.
        ranges: how many ranges their runs make.
        where: the first of these, in order.
        tags: which hold them; none for files.
        through: the steps before it by which it is affected; none when it is what changes.
    """

    campaign: str
    name: str
    cells: int
    ranges: int
    where: tuple[IoV, ...]
    tags: tuple[str, ...] = ()
    through: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        counts = {"campaign": self.campaign, "name": self.name, "cells": self.cells, "ranges": self.ranges}
        lists = {"tags": list(self.tags), "through": list(self.through), "iovs": [list(iov) for iov in self.where]}
        return {**counts, **lists}


@dataclass(frozen=True, slots=True)
class AffectedSample:
    """A sample made with payloads that are affected, and their names."""

    sample: Sample
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**self.sample.to_json(), "through": list(self.names)}


@dataclass(frozen=True, slots=True)
class Impact:
    """The answer; what has most cells comes first, and of samples those that most names reach."""

    payloads: tuple[AffectedCells, ...]
    cdst: tuple[AffectedCells, ...]
    samples: tuple[AffectedSample, ...]

    def __post_init__(self) -> None:
        for part in ("payloads", "cdst"):
            lines: tuple[AffectedCells, ...] = getattr(self, part)
            ordered = sorted(lines, key=lambda line: (-line.cells, line.name, line.campaign))
            object.__setattr__(self, part, tuple(ordered))
        samples = sorted(self.samples, key=lambda one: (-len(one.names), one.sample.name))
        object.__setattr__(self, "samples", tuple(samples))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "payloads": [line.to_json() for line in self.payloads],
            "cdst": [line.to_json() for line in self.cdst],
            "samples": [one.to_json() for one in self.samples],
        }


def steps_of(campaign: Campaign, catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Step to the steps it reads from directly, those first that others need.

    What a script asks of its tags by name is not known, so every calibration, and the cDST production, counts as a
    reader of the base tags, of local calibrations and of all payloads that it is given.
    """
    calibrations = campaign.calibrations_of(catalogue)
    raw = tuple(name for name in calibrations if catalogue[name].stage == "raw")
    given = (BASE, *map(import_name, campaign.local_calibrations))
    steps: dict[str, tuple[str, ...]] = dict.fromkeys(given, ())
    for name in calibrations:
        made = () if name in raw else (CDST,)
        steps[name] = (*given, *_nearest(name, calibrations, catalogue), *made)
    if len(raw) < len(calibrations):
        steps[CDST] = (*given, *raw)
    return {name: steps[name] for name in topological_order(steps)}


def _nearest(name: str, calibrations: Sequence[str], catalogue: Catalogue) -> tuple[str, ...]:
    """What it depends on; a calibration that the campaign does not have is replaced by those before it."""
    found: dict[str, None] = {}
    for needed in catalogue[name].depends_on:
        found |= dict.fromkeys([needed] if needed in calibrations else _nearest(needed, calibrations, catalogue))
    return tuple(found)


def spread(
    changed: Mapping[str, _Runs], needs: Mapping[str, Sequence[str]], hit: Callable[[str, _Runs], _Runs]
) -> dict[str, _Runs]:
    """Step to the runs in which what it made is affected; steps that are not touched are left out.

    Args:
        changed: step to the runs in which what it made is changed to begin with.
        needs: step to those it reads from; it also reads what these have read.
        hit: the runs in which results of a step are affected, when what it read is other in these runs.

    Raises:
        CycleError: steps need each other in a circle.
    """
    affected: dict[str, _Runs] = {}
    before: dict[str, _Runs] = {}
    for step in topological_order(needs):
        read = _joined([part[needed] for needed in needs[step] for part in (affected, before) if needed in part])
        own = [changed[step]] if step in changed else []
        if read is not None:
            before[step] = read
            own.append(hit(step, read))
        found = _joined([runs for runs in own if runs])
        if found is not None:
            affected[step] = found
    return affected


def _joined(parts: Sequence[_Runs]) -> _Runs | None:
    """All runs of the parts; ``None`` when there is no part."""
    together: _Runs | None = None
    for part in parts:
        together = part if together is None else together | part
    return together
