"""Local calibrations: payloads that subsystems make outside the platform and keep in global tags of their own.

For each bucket they are taken from there, clipped to its runs. Pure rules; nothing here reads or writes a database.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import check_tag_name
from b2cal_core.publishing import TagIov, merge_tags
from b2cal_core.ranges import IoV, IoVSet

_SUBSYSTEM = re.compile(r"[a-z][a-z0-9_]{0,30}")


class LocalSource(BaseModel):
    """A global tag of a subsystem, and which of its payloads are taken.

    Attributes:
        responsible: who fills the tag, by the name people are known by; empty when nobody is named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: str
    payloads: tuple[str, ...] = Field(min_length=1)
    responsible: str = ""

    @field_validator("tag")
    @classmethod
    def _tag_is_named_well(cls, value: str) -> str:
        return check_tag_name(value)


LocalSources = Mapping[str, tuple[LocalSource, ...]]
"""Subsystem to the tags it fills."""


def import_name(subsystem: str) -> str:
    """How the import of a subsystem's payloads is called, where steps go by the names of their calibrations."""
    return f"local_{subsystem}"


def refuse_unclear(sources: LocalSources) -> None:
    """Raise ``ValueError`` when a subsystem has no usable name or no tag, or a payload could come from two places."""
    for subsystem, tags in sources.items():
        if not _SUBSYSTEM.fullmatch(subsystem):
            raise ValueError(f"a subsystem is named with lower case letters, digits and _, got {subsystem!r}")
        if not tags:
            raise ValueError(f"subsystem {subsystem} has no source tag; name one, or leave the subsystem out")
    listed = Counter(name for tags in sources.values() for source in tags for name in source.payloads)
    doubled = sorted(name for name, count in listed.items() if count > 1)
    if doubled:
        raise ValueError(f"a payload is taken from one tag, but {', '.join(doubled)} is listed more than once")


def refuse_made(sources: LocalSources, made: Mapping[str, Iterable[str]]) -> None:
    """Raise ``ConfigurationError`` when a calibration makes a payload that is to be imported.

    Args:
        sources: of the campaign.
        made: calibration to the payloads that its script declares.
    """
    makers = {payload: calibration for calibration, payloads in made.items() for payload in payloads}
    for subsystem, tags in sources.items():
        for source in tags:
            for name in source.payloads:
                if name in makers:
                    raise ConfigurationError(
                        f"local_calibrations: {name} of {subsystem} is made by calibration {makers[name]!r} of this"
                        " campaign; take it from the list, or leave that calibration out"
                    )


def taken(links: Iterable[TagIov], names: Iterable[str], within: IoV) -> tuple[TagIov, ...]:
    """What a source tag has of these payloads in ``within``, both ends included: clipped, one answer for each run.

    Where it has two payloads for a run the higher revision counts, as for readers of the tag.
    """
    wanted = frozenset(names)
    return merge_tags([[link for link in links if link.name in wanted]], within)


def uncovered(links: Iterable[TagIov], names: Sequence[str], within: IoV) -> dict[str, tuple[IoV, ...]]:
    """Payload to the runs of ``within`` that it lacks, for those of ``names`` that lack any, in their order."""
    covered: dict[str, list[IoV]] = {}
    for link in links:
        covered.setdefault(link.name, []).append(link.iov)
    gaps = {name: IoVSet(covered.get(name, ()), allow_overlaps=True).missing_from(within) for name in names}
    return {name: lacking for name, lacking in gaps.items() if lacking}
