"""Collectors of drift-chamber hits for the time zeros of the wires."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from b2cal_caf.calibration import Collectable, Collector, ConditionsReader, Sums
from b2cal_core.ranges import ExpRun
from b2cal_detector.event_files import read_tree
from b2cal_detector.geometry import CDC_WIRES
from b2cal_detector.track_fit import CdcEvents

_COLUMNS = ("event", "seed", "cdc_wire", "cdc_time", "cdc_side")


@dataclass(frozen=True, slots=True)
class CdcTimeCollector(Collector):
    """Sums up, for every wire, its time residuals against tracks and event times fitted with present constants.

    Collected ``residuals``: ``hits``; ``weight``, the hits less what the fits took from them; ``residual`` and
    ``square``, the sums of residuals (ns) and of their squares.
    """

    granularity: ClassVar[Literal["run", "all"]] = "all"
    reads: ClassVar[tuple[str, ...]] = ("CDCTimeZeros",)

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The sums of one file."""
        events = CdcEvents.of(
            tracks := read_tree(file, "tracks", _COLUMNS), conditions.columns("CDCTimeZeros", run)["t0"]
        )
        residual, freedom = events.time_residuals(events.event_times())
        wires = tracks["cdc_wire"].ravel()
        sums = {"hits": None, "weight": freedom, "residual": residual, "square": residual**2}
        return {
            "residuals": Sums(
                {
                    key: np.bincount(wires, None if values is None else values.ravel(), CDC_WIRES).astype(np.float64)
                    for key, values in sums.items()
                }
            )
        }


@dataclass(frozen=True, slots=True)
class CdcTimeRunCollector(CdcTimeCollector):
    """The same, kept apart per run, for payload boundaries."""

    granularity: ClassVar[Literal["run", "all"]] = "run"
