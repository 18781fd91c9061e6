"""The common time offset of the TOP counter."""

from dataclasses import dataclass

import numpy as np

from b2cal_caf.calibration import Algorithm, Execution
from b2cal_core.strategies import AlgResult
from b2cal_detector.algorithms.peaks import fit_peak


@dataclass(frozen=True, slots=True)
class TopCommonT0Algorithm(Algorithm):
    """Fits the peak of TOP time minus event time.

    Args:
        min_entries: events needed.
        window: ns around the median that the fit sees.
    """

    min_entries: int = 200
    window: float = 2.5

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``TOPCalCommonT0`` with columns ``t0``, ``t0_err``, ``width`` (ns) and ``entries``."""
        histogram = execution.data.hist("residuals")
        entries = 0 if histogram is None else int(histogram.sum())
        if histogram is None or entries < self.min_entries:
            return AlgResult.not_enough_data
        peak = fit_peak(histogram, self.window)
        execution.log(f"{execution.iov}: {entries} events, t0 {peak.position:.4f} +- {peak.position_err:.4f} ns")
        if not peak.valid:
            return AlgResult.failure
        columns = {"t0": peak.position, "t0_err": peak.position_err, "width": peak.width}
        execution.save(
            "TOPCalCommonT0",
            {key: np.array([value]) for key, value in columns.items()} | {"entries": np.array([entries])},
        )
        return AlgResult.ok
