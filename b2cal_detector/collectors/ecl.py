"""Collector of calorimeter clusters whose energy is known from kinematics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from b2cal_caf.calibration import Collectable, Collector, ConditionsReader, Sums
from b2cal_core.ranges import ExpRun
from b2cal_detector.event_files import read_tree
from b2cal_detector.geometry import ECL_CRYSTALS


@dataclass(frozen=True, slots=True)
class EclEnergyCollector(Collector):
    """Sums up, for every crystal, signal over expected energy.

    Collected ``ratios``: ``n``, ``ratio`` and ``square``, of signals without any constant.
    """

    granularity: ClassVar[Literal["run", "all"]] = "all"

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The sums of one file."""
        del run, conditions  # signals come uncalibrated
        clusters = read_tree(file, "ecl", ("crystal", "signal", "expected"))
        ratio = clusters["signal"].astype(np.float64) / clusters["expected"]
        sums = {"n": None, "ratio": ratio, "square": ratio**2}
        crystal = clusters["crystal"]
        return {"ratios": Sums({k: np.bincount(crystal, v, ECL_CRYSTALS).astype(np.float64) for k, v in sums.items()})}
