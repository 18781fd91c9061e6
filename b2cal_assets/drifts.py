"""By how much new constants differ from those before, in units of their errors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np

from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import read_payload
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import IoV

_ERROR_SUFFIX = "_err"


@dataclass(frozen=True, slots=True)
class Drift:
    """The change of one column of one payload.

    Attributes:
        median: of the absolute changes, in units of both errors together.
        largest: of the absolute changes, in the same units; infinite when the number of channels changed.
    """

    payload: str
    column: str
    iov: IoV
    channels: int
    median: float
    largest: float


def drifts(new: Iterable[LocalPayload], previous: Path | None) -> tuple[Drift, ...]:
    """The drift of every column that has errors, of the first IoV of every payload that was there before.

    Args:
        new: payloads of one bucket.
        previous: directory of the testing payload storage with the payloads valid before, or none.
    """
    if previous is None:
        return ()
    before = LocalDatabase(previous)
    firsts: dict[str, LocalPayload] = {}
    for payload in sorted(new, key=lambda payload: (payload.name, payload.iov)):
        firsts.setdefault(payload.name, payload)
    found: list[Drift] = []
    for name, payload in firsts.items():
        old = next((entry for entry in reversed(before.entries()) if entry.name == name), None)
        if old is not None:
            columns = read_payload(payload.file, name), read_payload(old.file, name)
            found += [_drift(name, column, payload.iov, columns=columns) for column in _with_errors(*columns)]
    return tuple(found)


def _with_errors(new: Mapping[str, np.ndarray], old: Mapping[str, np.ndarray]) -> list[str]:
    return [c for c in new if c in old and c + _ERROR_SUFFIX in new and c + _ERROR_SUFFIX in old]


def _drift(
    name: str, column: str, iov: IoV, *, columns: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]
) -> Drift:
    (new, old), error = columns, column + _ERROR_SUFFIX
    channels = len(new[column])
    if channels != len(old[column]):
        return Drift(name, column, iov, channels, inf, inf)
    both = np.hypot(np.asarray(new[error], float), np.asarray(old[error], float))
    usable = np.isfinite(both) & (both > 0)  # a channel without an error is dead or fixed, and cannot drift
    if not usable.any():
        return Drift(name, column, iov, 0, 0.0, 0.0)
    change = np.abs(np.asarray(new[column], float) - np.asarray(old[column], float))[usable] / both[usable]
    return Drift(name, column, iov, int(usable.sum()), float(np.median(change)), float(change.max()))
