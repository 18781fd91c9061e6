"""The time zeros of the drift-chamber wires."""

from dataclasses import dataclass

import numpy as np

from b2cal_caf.calibration import Algorithm, Execution
from b2cal_core.strategies import AlgResult


@dataclass(frozen=True, slots=True)
class CdcTimeZeroAlgorithm(Algorithm):
    """Moves every wire by the mean residual of its hits, and asks to go round again until that moves nothing.

    One step cannot be exact, since tracks and event times were fitted to hits of wires that were wrong themselves. The
    mean over all wires is 0, as event times can absorb any other. The stated errors take each wire by itself; that
    tracks cross the same neighbours makes them too small, by 1 % on average and by 3 % in the innermost layers.

    Args:
        min_hits: a wire with fewer keeps its constant, with an infinite error.
        min_wires: share of wires that must have enough hits, else there is not enough data.
        convergence: the largest move, in units of its error, that needs no further pass.
    """

    min_hits: int = 10
    min_wires: float = 0.95
    convergence: float = 0.5

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``CDCTimeZeros`` with columns ``t0``, ``t0_err`` (ns) and ``hits``."""
        sums = execution.data.sums("residuals")
        if not sums or np.mean(sums["hits"] >= self.min_hits) < self.min_wires:
            return AlgResult.not_enough_data
        usable = sums["hits"] >= self.min_hits
        freedom = sums["weight"][usable].sum() - usable.sum()
        resolution = np.sqrt(sums["square"][usable].sum() / freedom)
        weight = np.where(usable, sums["weight"], 1)
        move = np.where(usable, sums["residual"] / weight, 0)
        move -= move[usable].mean()
        error = np.where(usable, resolution / np.sqrt(weight), np.inf)
        before = execution.conditions.columns("CDCTimeZeros", execution.runs[0])["t0"]
        after = before + np.where(usable, move, 0)
        columns = {"t0": after - after.mean(), "t0_err": error, "hits": sums["hits"].astype(np.int64)}
        execution.save("CDCTimeZeros", columns)
        largest = float(np.max(np.abs(move) / error))
        execution.log(
            f"iteration {execution.iteration}: hit resolution {resolution:.3f} ns, largest move {largest:.2f} of its "
            f"error, {np.sum(~usable)} of {usable.size} wires with fewer than {self.min_hits} hits"
        )
        return AlgResult.ok if largest < self.convergence else AlgResult.iterate
