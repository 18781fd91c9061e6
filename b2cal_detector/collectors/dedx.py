"""Collector of drift-chamber charges of electrons."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from b2cal_caf.calibration import Collectable, Collector, ConditionsReader, Sums
from b2cal_core.ranges import ExpRun
from b2cal_detector.event_files import read_tree
from b2cal_detector.geometry import CDC_WIRES


@dataclass(frozen=True, slots=True)
class DedxCollector(Collector):
    """Sums up, for every wire, the charges of its hits with the present gains of run and wire taken out.

    Collected ``charges``: ``hits``, ``charge`` and ``square``.
    """

    reads: ClassVar[tuple[str, ...]] = ("CDCDedxRunGain", "CDCDedxWireGain")

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The sums of one file."""
        hits = read_tree(file, "dedx", ("wire", "charge"))
        wire = hits["wire"].astype(np.int64).ravel()
        gain = conditions.columns("CDCDedxRunGain", run)["gain"][0] * conditions.columns("CDCDedxWireGain", run)["gain"]
        charge = hits["charge"].ravel() / gain[wire]
        sums = {"hits": None, "charge": charge, "square": charge**2}
        return {"charges": Sums({k: np.bincount(wire, v, CDC_WIRES).astype(np.float64) for k, v in sums.items()})}
