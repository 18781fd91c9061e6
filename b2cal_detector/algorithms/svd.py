"""The time calibration of the vertex-detector sensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from b2cal_caf.calibration import Algorithm, CollectedData, Execution
from b2cal_core.ranges import ExpRun
from b2cal_core.strategies import AlgResult


@dataclass(frozen=True, slots=True)
class SvdTimeAlgorithm(Algorithm):
    """Fits a straight line of raw time over event time per sensor, corrected for the error of the event times.

    Args:
        min_hits: clusters every sensor must have, else there is not enough data.
        allowed_shift: ns by which the mean raw time may change from one run to the next within an interval.
    """

    min_hits: int = 10
    allowed_shift: float = 2.0

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``SVDTimeCalibrations``: raw time = ``offset`` + ``slope`` times event time; errors and ``hits``."""
        sums = execution.data.sums("line")
        if not sums or sums["n"].min() < self.min_hits:
            return AlgResult.not_enough_data
        columns = fitted_lines(sums)
        execution.save("SVDTimeCalibrations", columns)
        mean = columns["offset"].mean(), columns["slope"].mean()
        execution.log(f"{int(sums['n'].sum())} clusters, mean offset {mean[0]:.3f} ns, mean slope {mean[1]:.4f}")
        return AlgResult.ok

    def boundaries(self, data: CollectedData) -> Sequence[ExpRun]:
        """The first run, and every run whose mean raw time differs from that of the run before by more than allowed."""
        means: dict[ExpRun, float] = {}
        for run in data.runs:
            sums = data.of([run]).sums("line")
            if sums and sums["n"].sum() > 0:
                means[run] = float(sums["y"].sum() / sums["n"].sum())
        runs = sorted(means)
        jumps = [
            after
            for before, after in pairwise(runs)
            if before.exp != after.exp or abs(means[after] - means[before]) > self.allowed_shift
        ]
        return runs[:1] + jumps


def fitted_lines(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Line parameters and errors per sensor from the sums of ``SvdTimeCollector``.

    The spread of event times is taken without their errors, which would flatten the slope. One residual spread is used
    for all sensors, so that an error does not depend on the fluctuation of its own value.
    """
    n, mean_x, mean_y = sums["n"], sums["x"] / sums["n"], sums["y"] / sums["n"]
    spread_x = sums["xx"] - n * mean_x**2
    genuine = spread_x - sums["vx"]
    spread_xy = sums["xy"] - n * mean_x * mean_y
    slope = spread_xy / genuine
    square = sums["yy"] - n * mean_y**2 - 2 * slope * spread_xy + slope**2 * spread_x
    residual = np.sqrt(square.sum() / (n - 2).sum())
    return {
        "offset": mean_y - slope * mean_x,
        "offset_err": residual * np.sqrt(1 / n + mean_x**2 / genuine),
        "slope": slope,
        "slope_err": residual / np.sqrt(genuine),
        "hits": n.astype(np.int64),
    }
