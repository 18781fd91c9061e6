"""Collector of vertex-detector cluster times against event times."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from b2cal_caf.calibration import Collectable, Collector, ConditionsReader, Sums
from b2cal_core.ranges import ExpRun
from b2cal_detector.event_files import read_tree
from b2cal_detector.geometry import SVD_SENSORS
from b2cal_detector.track_fit import CdcEvents

_COLUMNS = ("event", "seed", "cdc_wire", "cdc_time", "cdc_side", "svd_sensor", "svd_time")


@dataclass(frozen=True, slots=True)
class SvdTimeCollector(Collector):
    """Sums up, for every sensor, what a straight line of raw time over event time needs.

    The event time is the drift chamber's, with the wires' present constants. Collected ``line``: ``n``; ``x``, ``xx``
    of event times (ns); ``y``, ``yy``, ``xy`` of raw times; ``vx``, the sum of the variances of the event times.
    """

    reads: ClassVar[tuple[str, ...]] = ("CDCTimeZeros",)

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The sums of one file."""
        tracks = read_tree(file, "tracks", _COLUMNS)
        events = CdcEvents.of(tracks, conditions.columns("CDCTimeZeros", run)["t0"])
        times = events.event_times()
        sensor, y = tracks["svd_sensor"].ravel(), tracks["svd_time"].astype(np.float64).ravel()
        layers = tracks["svd_sensor"].shape[1]
        x, variance = (np.repeat(values[events.owner], layers) for values in (times.value, times.variance))
        sums = {"n": np.ones_like(x), "x": x, "xx": x * x, "y": y, "yy": y * y, "xy": x * y, "vx": variance}
        return {"line": Sums({key: np.bincount(sensor, values, SVD_SENSORS) for key, values in sums.items()})}
