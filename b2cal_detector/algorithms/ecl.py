"""The energy constants of the calorimeter crystals."""

from dataclasses import dataclass

import numpy as np

from b2cal_caf.calibration import Algorithm, Columns, Execution
from b2cal_core.strategies import AlgResult


@dataclass(frozen=True, slots=True)
class EclEnergyAlgorithm(Algorithm):
    """The constant that brings the mean calibrated energy of each crystal to what is expected.

    Args:
        payload: what it makes.
        min_entries: clusters a crystal needs; with fewer it keeps its constant, with an infinite error.
        min_crystals: share of crystals that must have enough, else there is not enough data.
    """

    payload: str
    min_entries: int = 10
    min_crystals: float = 0.9

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make the payload with columns ``constant``, ``constant_err`` (GeV per unit of signal) and ``entries``."""
        sums = execution.data.sums("ratios")
        if not sums or np.mean(sums["n"] >= self.min_entries) < self.min_crystals:
            return AlgResult.not_enough_data
        usable = sums["n"] >= self.min_entries
        n = np.where(usable, sums["n"], 1)
        mean = np.where(usable, sums["ratio"] / n, 1)
        spread = (sums["square"] / n - mean**2)[usable].sum() / (mean**2 * (1 - 1 / n))[usable].sum()
        before = execution.conditions.columns(self.payload, execution.runs[0])["constant"]
        constant = np.where(usable, 1 / mean, before)
        error = np.where(usable, constant * np.sqrt(spread / n), np.inf)
        execution.save(
            self.payload, {"constant": constant, "constant_err": error, "entries": sums["n"].astype(np.int64)}
        )
        execution.log(f"{self.payload}: resolution {100 * np.sqrt(spread):.2f} %, {np.sum(usable)} crystals calibrated")
        return AlgResult.ok


@dataclass(frozen=True, slots=True)
class EclMergeAlgorithm(Algorithm):
    """The average of the constants from several samples, weighted by their errors.

    Args:
        sources: payloads to merge.
        payload: what it makes.
    """

    sources: tuple[str, ...] = ("ECLCrystalEnergyee5x5", "ECLCrystalEnergyGammaGamma")
    payload: str = "ECLCrystalEnergy"

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make the merged payload with columns ``constant`` and ``constant_err``."""
        run = execution.runs[0]
        merged = weighted_average([execution.conditions.columns(name, run) for name in self.sources])
        execution.save(self.payload, merged)
        return AlgResult.ok


def weighted_average(columns: list[Columns]) -> Columns:
    """Average of ``constant`` with its error; where no source has a finite error, the plain mean with an infinite one.

    The inverse constants are averaged, since it is these that are measured without bias.
    """
    constants = np.stack([c["constant"] for c in columns])
    weights = np.stack([(c["constant"] / c["constant_err"]) ** 2 for c in columns])
    total = weights.sum(axis=0)
    known = total > 0
    weights = np.where(known, weights, 1)
    mean = weights.sum(axis=0) / np.sum(weights / constants, axis=0)
    return {"constant": mean, "constant_err": np.where(known, mean / np.sqrt(np.where(known, total, 1)), np.inf)}
