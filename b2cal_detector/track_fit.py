"""The fit of tracks and event time to drift-chamber hits, all events of a file at once.

Every track of an event is a parabola, and all of them share one event time. A hit on side ``s`` of its wire, with drift
time ``t`` after the wire's offset, lies at ``wire + s v (t - T0)``; the fit of the parabolas is linear and equal for
all tracks, and what it leaves over determines ``T0``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from b2cal_detector import geometry


@dataclass(frozen=True, slots=True)
class CdcEvents:
    """Hits of tracks, wire offsets taken off.

    Attributes:
        owner: event of each track, shape (tracks,).
        position: cm to the side of the seed, for an event time of 0, shape (tracks, layers).
        side: +1 or -1, shape (tracks, layers).
    """

    owner: np.ndarray
    position: np.ndarray
    side: np.ndarray

    @classmethod
    def of(cls, tracks: Mapping[str, np.ndarray], time_zeros: np.ndarray) -> "CdcEvents":
        """The hits in raw columns, with the wires' offsets ``time_zeros`` (ns)."""
        wires = tracks["cdc_wire"].astype(np.int64)
        side = tracks["cdc_side"].astype(np.float64)
        away = geometry.wrapped(geometry.wire_angles(wires) - tracks["seed"].astype(np.float64)[:, None])
        drift = (tracks["cdc_time"] - time_zeros[wires]) * geometry.DRIFT_VELOCITY
        return cls(tracks["event"].astype(np.int64), geometry.CDC_RADII * away + side * drift, side)

    def event_times(self) -> "EventTimes":
        """The event times that fit best."""
        left = geometry.residuals(self.side)
        count = int(self.owner.max(initial=-1)) + 1
        information = np.bincount(self.owner, np.einsum("ij,ij->i", left, self.side), count)
        moment = np.bincount(self.owner, np.einsum("ij,ij->i", left, self.position), count)
        known = information > 0
        value = np.divide(moment, information * geometry.DRIFT_VELOCITY, out=np.zeros(count), where=known)
        spread = np.divide(1, information, out=np.full(count, np.inf), where=known)
        return EventTimes(value, spread, left)

    def parabolas(self, times: np.ndarray) -> np.ndarray:
        """(a, b, c) of every track for given event times, shape (tracks, 3)."""
        shift = self.side * (geometry.DRIFT_VELOCITY * times[self.owner])[:, None]
        parabolas: np.ndarray = (self.position - shift) @ geometry.TRACK_FIT.T
        return parabolas

    def time_residuals(self, times: "EventTimes") -> tuple[np.ndarray, np.ndarray]:
        """Residual of every hit (ns) and the share of its variance that the fit leaves, both (tracks, layers)."""
        raw = geometry.residuals(self.position)
        shift = times.left * (geometry.DRIFT_VELOCITY * times.value[self.owner])[:, None]
        residual = self.side * (raw - shift) / geometry.DRIFT_VELOCITY
        freedom = geometry.FREEDOM - times.left**2 * times.spread[self.owner][:, None]
        return residual, freedom


@dataclass(frozen=True, slots=True)
class EventTimes:
    """Fitted event times.

    Attributes:
        value: ns, shape (events,).
        spread: variance of ``value`` in units of that of one hit, shape (events,); infinite without hits.
        left: the part of each hit's side that no parabola can follow, shape (tracks, layers).
    """

    value: np.ndarray
    spread: np.ndarray
    left: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Of ``value``, for hits of the design resolution."""
        return self.spread * geometry.CDC_TIME_RESOLUTION**2
