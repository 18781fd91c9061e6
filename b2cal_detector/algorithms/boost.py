"""The velocity of the collisions."""

from dataclasses import dataclass

import numpy as np

from b2cal_caf.calibration import Algorithm, Execution
from b2cal_core.strategies import AlgResult


@dataclass(frozen=True, slots=True)
class BoostVectorAlgorithm(Algorithm):
    """The mean velocity of muon pairs.

    Args:
        min_events: muon pairs needed.
    """

    min_events: int = 500

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``CollisionBoostVector`` with columns ``x``, ``y``, ``z`` (units of the speed of light) and errors."""
        sums = execution.data.sums("velocity")
        if not sums or sums["n"][0] < self.min_events:
            return AlgResult.not_enough_data
        n = sums["n"]
        mean = sums["sum"] / n
        error = np.sqrt((sums["square"] / n - mean**2) / (n - 1))
        columns = {axis: mean[[i]] for i, axis in enumerate("xyz")}
        columns |= {f"{axis}_err": error[[i]] for i, axis in enumerate("xyz")}
        execution.save("CollisionBoostVector", columns | {"events": np.array([int(n[0])])})
        execution.log(f"{int(n[0])} events, boost {mean[0]:.6f} {mean[1]:.6f} {mean[2]:.6f}")
        return AlgResult.ok
