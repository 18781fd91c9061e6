"""Comparison of fitted constants with the truth of the simulation.

Only tests and the demo may use it: no calibration and no validation knows the truth.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from b2cal_core.errors import ConfigurationError
from b2cal_core.filters import is_selected
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord
from b2cal_detector.truth import Truth

_USED = ("Good Or Recoverable", "physics", "On")
_TRACKS_PER_EVENT: Mapping[str, Mapping[str, float]] = {
    "CDCTimeZeros": {"hadron_calib": 4.5, "mumu_tight_or_highm_calib": 2},
    "SVDTimeCalibrations": {"hadron_calib": 1},
    "TOPCalCommonT0": {"mumu_tight_or_highm_calib": 1},
    "CDCDedxRunGain": {"bhabha_all_calib": 1},
    "CDCDedxWireGain": {"bhabha_all_calib": 1},
    "ECLCrystalEnergyee5x5": {"bhabha_all_calib": 1},
    "ECLCrystalEnergyGammaGamma": {"gamma_gamma_calib": 1},
    "ECLCrystalEnergy": {"bhabha_all_calib": 1, "gamma_gamma_calib": 0.7},
    "BeamSpot": {"mumu_tight_or_highm_calib": 1},
    "CollisionBoostVector": {"mumu_tight_or_highm_calib": 1},
    "CollisionInvariantMass": {"mumu_tight_or_highm_calib": 1},
}
"""What an event of each data tag counts for, in the averages that the calibrations form over runs."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One column of one payload against the truth.

    Attributes:
        fitted, true, error: shape (constants,), those with a finite error only.
    """

    name: str
    column: str
    iov: IoV
    fitted: np.ndarray
    true: np.ndarray
    error: np.ndarray

    @property
    def pulls(self) -> np.ndarray:
        """Fitted less true, in units of the stated error."""
        pulls: np.ndarray = (self.fitted - self.true) / self.error
        return pulls

    @property
    def pull_mean(self) -> float:
        """Mean of the pulls."""
        return float(self.pulls.mean())

    @property
    def pull_width(self) -> float:
        """Root mean square of the pulls about 0; for a single constant the size of its pull."""
        return float(np.sqrt(np.mean(self.pulls**2)))


def run_weights(name: str, records: Iterable[RunRecord], iov: IoV) -> dict[ExpRun, float]:
    """How much each run counts in a payload: runs of ``records`` in the IoV whose data the calibrations use."""
    if name not in _TRACKS_PER_EVENT:
        msg = f"payload {name!r} has no truth to compare with; known are {', '.join(_TRACKS_PER_EVENT)}"
        raise ConfigurationError(msg)
    tags = _TRACKS_PER_EVENT[name]
    return {
        record.run: sum((record.events(tag) or record.events(tag, "cdst")) * each for tag, each in tags.items())
        for record in records
        if iov.contains(record.run) and is_selected(record.labels(), _USED)
    }


def compare(
    truth: Truth,
    name: str,
    columns: Mapping[str, np.ndarray],
    *,
    iov: IoV,
    weights: Mapping[ExpRun, float],
) -> tuple[Comparison, ...]:
    """Every column with an error beside it, against the truth averaged over the runs it was fitted from.

    Args:
        truth: of the seed that the data were simulated with.
        name: payload name.
        columns: what the payload holds.
        iov: of the payload; carried along.
        weights: the runs it was fitted from; see ``run_weights``, to be given the runs of the bucket only, since the
            last IoV of a bucket is open.
    """
    true = truth.averaged(name, weights)
    found = []
    for column, expected in true.items():
        if f"{column}_err" in columns:
            error = np.asarray(columns[f"{column}_err"])
            known = np.isfinite(error) & (error > 0)
            fitted = np.asarray(columns[column])
            found.append(Comparison(name, column, iov, fitted[known], expected[known], error[known]))
    return tuple(found)
