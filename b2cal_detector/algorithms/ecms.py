"""The energy of the collisions in their rest frame."""

from dataclasses import dataclass

import numpy as np
from iminuit import Minuit
from scipy.special import erfcx, ndtr

from b2cal_caf.calibration import Algorithm, Execution
from b2cal_core.strategies import AlgResult

_SATURATED = -5.0
"""Below this argument the complementary error function is 2."""


@dataclass(frozen=True, slots=True)
class CollisionMassAlgorithm(Algorithm):
    """Fits the mass of muon pairs: a peak, each pair with its own resolution, and a tail of radiative events.

    Args:
        min_events: muon pairs needed.
        spread: of the collision energy (GeV); known from the machine, not measured here.
        window: GeV below and above the present constant that the fit sees.
    """

    min_events: int = 500
    spread: float = 5.2e-3
    window: tuple[float, float] = (0.25, 0.15)

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``CollisionInvariantMass`` with columns ``mass``, ``mass_err`` and ``spread`` (GeV)."""
        pairs = execution.data.table("pairs")
        if not pairs or pairs["mass"].size < self.min_events:
            return AlgResult.not_enough_data
        before = execution.conditions.columns("CollisionInvariantMass", execution.runs[0])["mass"][0]
        shift = pairs["mass"] - before
        inside = (shift > -self.window[0]) & (shift < self.window[1])
        resolution = np.hypot(pairs["mass_err"], self.spread)[inside]
        likelihood = MassLikelihood(shift[inside], resolution, self.window)
        fit = Minuit(likelihood, shift=float(np.median(shift[inside])), scale=1.0, fraction=0.1, tail=0.04)
        fit.errordef = Minuit.LIKELIHOOD
        fit.limits["scale"], fit.limits["fraction"], fit.limits["tail"] = (0.2, 10), (0, 1), (0.005, 0.5)
        fit.migrad()
        fit.hesse()
        values, errors = fit.values, fit.errors
        execution.log(
            f"{int(inside.sum())} pairs, mass {1e3 * (before + values['shift']):.2f} +- {1e3 * errors['shift']:.2f} "
            f"MeV, resolution {values['scale']:.3f} of the expected, {100 * values['fraction']:.1f} % radiative"
        )
        if not fit.valid:
            return AlgResult.failure
        columns = {"mass": before + values["shift"], "mass_err": errors["shift"], "spread": self.spread}
        columns |= {"resolution_scale": values["scale"], "resolution_scale_err": errors["scale"]}
        execution.save("CollisionInvariantMass", {key: np.array([value]) for key, value in columns.items()})
        return AlgResult.ok


class MassLikelihood:
    """Minus the logarithm of the likelihood of peak position, resolution scale, radiative fraction and tail length."""

    def __init__(self, shift: np.ndarray, resolution: np.ndarray, window: tuple[float, float]) -> None:
        self._shift, self._resolution = shift, resolution
        self._low, self._high = -window[0], window[1]

    def __call__(self, shift: float, scale: float, fraction: float, tail: float) -> float:
        """Minus the logarithm at these values."""
        width = scale * self._resolution
        z = (self._shift - shift) / width
        density = (1 - fraction) * np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * width) + fraction * _tailed(
            z, width / tail
        ) / tail
        low, high = ((edge - shift) / width for edge in (self._low, self._high))
        inside = (1 - fraction) * (ndtr(high) - ndtr(low))
        inside += fraction * (_tailed_below(high, width / tail) - _tailed_below(low, width / tail))
        return -float(np.sum(np.log(density) - np.log(inside)))


def _tailed(z: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Density of a Gaussian with an exponential tail to low values, times its length; ``k`` is width over length."""
    argument = (z + k) / np.sqrt(2)
    near = 0.5 * np.exp(-0.5 * z**2) * erfcx(np.maximum(argument, _SATURATED))
    density: np.ndarray = np.where(argument > _SATURATED, near, np.exp(0.5 * k**2 + z * k))
    return density


def _tailed_below(z: np.ndarray, k: np.ndarray) -> np.ndarray:
    """The share of it below ``z``."""
    below: np.ndarray = ndtr(z) + _tailed(z, k)
    return below
