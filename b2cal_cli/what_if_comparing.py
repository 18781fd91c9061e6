"""What a branch made beside what the bucket it was made of has. Importing this is slow."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_situations import FIGURES
from b2cal_assets.staging import links_of
from b2cal_caf.payload_files import read_payload
from b2cal_cli.ledgers import ledger_of
from b2cal_core.buckets import Bucket
from b2cal_core.errors import DataError
from b2cal_core.payloads import Payload
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV, IoVSet
from b2cal_core.what_if import ConstantChange, FigureChange, WhatIf, compare_columns
from resources.conditions.deployed import open_conditions
from resources.home import Home

_Named = Mapping[str, Sequence[TagIov]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Constants that differ, those that differ most in units of their errors first, and all figures of merit.

    ``unchanged``: how many payloads are the same in some runs.
    """

    calibrations: tuple[str, ...]
    constants: tuple[ConstantChange, ...]
    figures: tuple[FigureChange, ...]
    unchanged: int

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        constants, figures = ([one.to_json() for one in part] for part in (self.constants, self.figures))
        calibrations = list(self.calibrations)
        return {"calibrations": calibrations, "constants": constants, "figures": figures, "unchanged": self.unchanged}


def compare_branch(home: Home, change: WhatIf) -> Comparison:
    """Compare what is in the two staging tags, and what the last validations said."""
    bucket = Bucket.from_key(change.bucket)
    conditions = open_conditions(home)
    with ledger_of(home, change.campaign, bucket) as old, ledger_of(home, change.branch, bucket) as new:
        calibrations = new.plan.calibrations
        links = [_links(conditions, it.ledger, it.plan.staging_tag(bucket), calibrations) for it in (old, new)]
        figures = [
            line
            for name in calibrations
            for line in _figures(name, _judged(old.ledger, name), _judged(new.ledger, name))
        ]
    constants, unchanged = _Constants(conditions).compare(*links)
    return Comparison(calibrations, constants, tuple(figures), unchanged)


def _links(conditions: ConditionsDB, ledger: BucketLedger, tag: str, calibrations: Sequence[str]) -> _Named:
    records = (ledger.payloads(name) for name in calibrations)
    names = [name for record in records if record is not None for name in record.names]
    found: dict[str, list[TagIov]] = {name: [] for name in names}
    for link in links_of(conditions, tag, names):
        found[link.name].append(link)
    return found


class _Constants:
    """Payloads read as columns, each file once."""

    def __init__(self, conditions: ConditionsDB) -> None:
        self._conditions = conditions
        self._read: dict[Payload, dict[str, list[float]] | None] = {}

    def compare(self, old: _Named, new: _Named) -> tuple[tuple[ConstantChange, ...], int]:
        """What differs, and how many pairs of payloads are the same."""
        found: list[ConstantChange] = []
        unchanged = 0
        for name in {**old, **new}:
            before, after = old.get(name, ()), new.get(name, ())
            found += _one_sided(name, before, after, "original")
            found += _one_sided(name, after, before, "branch")
            for one, other, iov in _pairs(before, after):
                if one.revision == other.revision:
                    unchanged += 1
                else:
                    found += self._differences(one, other, iov)
        return tuple(sorted(found, key=_weight)), unchanged

    def _differences(self, one: TagIov, other: TagIov, iov: IoV) -> list[ConstantChange]:
        old, new = self._columns(one), self._columns(other)
        if old is None or new is None:
            return [ConstantChange(one.name, iov, "", note="the contents differ, and are no columns of numbers")]
        return [line for line in compare_columns(one.name, iov, old, new) if line.changed or line.note]

    def _columns(self, link: TagIov) -> dict[str, list[float]] | None:
        payload = self._conditions.payload(link.name, link.revision)
        if payload is None:
            return None
        if payload not in self._read:
            self._read[payload] = self._read_columns(payload)
        return self._read[payload]

    def _read_columns(self, payload: Payload) -> dict[str, list[float]] | None:
        try:
            columns = read_payload(self._conditions.payload_file(payload), payload.name)
            return {name: [float(value) for value in values] for name, values in columns.items()}
        except (DataError, TypeError, ValueError):
            return None


def _pairs(old: Sequence[TagIov], new: Sequence[TagIov]) -> Iterator[tuple[TagIov, TagIov, IoV]]:
    """Links of one name that share runs, and these runs."""
    for one in old:
        for other in new:
            shared = one.iov & other.iov
            if shared is not None:
                yield one, other, shared


def _one_sided(name: str, here: Sequence[TagIov], there: Sequence[TagIov], side: str) -> list[ConstantChange]:
    covered = IoVSet((link.iov for link in there), allow_overlaps=True)
    return [
        ConstantChange(name, iov, "", note=f"only the {side} has constants for these runs")
        for link in here
        for iov in covered.missing_from(link.iov)
    ]


def _weight(line: ConstantChange) -> tuple[float, str, IoV, str]:
    """What cannot be compared first, then what differs most in units of errors."""
    return (-inf if line.note else -abs(line.errors or 0.0)), line.payload, line.iov, line.column


def _judged(ledger: BucketLedger, calibration: str) -> dict[str, Mapping[str, Any]]:
    """Figure to its line of the last validation."""
    made = ledger.metadata(calibration_key(ledger.plan.name, calibration, Part.validation)) or {}
    found = made.get(FIGURES)
    if ledger.verdict(calibration) is None or not isinstance(found, dg.TableMetadataValue):
        return {}
    return {str(record.data["figure"]): record.data for record in found.records}


def _figures(
    calibration: str, old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Iterator[FigureChange]:
    for figure in {**old, **new}:
        (was, said), (now, says) = (_value_of(side.get(figure)) for side in (old, new))
        yield FigureChange(calibration, figure, was, said, now, says)


def _value_of(line: Mapping[str, Any] | None) -> tuple[float | None, str | None]:
    return (None, None) if line is None else (float(line["value"]), str(line["verdict"]))
