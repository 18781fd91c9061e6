"""The position and size of the beam spot, and the intervals in which it stays where it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from iminuit import Minuit

from b2cal_caf.calibration import Algorithm, Execution
from b2cal_core.ranges import IoV
from b2cal_core.strategies import AlgResult
from b2cal_detector.algorithms.segments import Measurement, best_segments

Pairs = Mapping[str, np.ndarray]
_MICRON = 1e-4
_PARAMETERS = ("x", "y", "z", "size_xx", "size_yy", "size_zz")


@dataclass(frozen=True, slots=True)
class BeamSpotAlgorithm(Algorithm):
    """Divides the runs where the position changes, and fits position and size in each interval by maximum likelihood.

    Args:
        min_events: muon pairs every interval must have.
        penalty: improvement of chi square that justifies one more interval.
    """

    min_events: int = 300
    penalty: float = 30.0

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``BeamSpot`` with columns ``x`` .. ``z`` (cm), ``size_xx`` .. ``size_zz`` (variance, cm²), errors."""
        runs = [run for run in execution.runs if len(execution.data.of([run]).table("pairs").get("phi_1", ()))]
        pairs = [execution.data.of([run]).table("pairs") for run in runs]
        firsts = best_segments(positions(pairs), penalty=self.penalty, min_events=self.min_events) if runs else []
        if not firsts:
            return AlgResult.not_enough_data
        starts = [execution.iov.start, *((runs[i].exp, runs[i].run) for i in firsts[1:])]
        stops = [*starts[1:], execution.iov.stop]
        for first, last, start, stop in zip(firsts, [*firsts[1:], len(runs)], starts, stops, strict=True):
            iov = IoV.of_edges(start, stop)
            columns = fitted_beam_spot(_joined(pairs[first:last]))
            if columns is None:
                execution.log(f"{iov}: the fit did not converge")
                return AlgResult.failure
            execution.save("BeamSpot", columns, iov)
            execution.log(f"{iov}: {columns['events'][0]} events, x {columns['x'][0]:.5f}, y {columns['y'][0]:.5f} cm")
        return AlgResult.ok


def positions(runs: Sequence[Pairs]) -> list[Measurement]:
    """What the pairs of each run tell of the position (x, y, z), with the spread found within runs."""
    designs, values = zip(*(_transverse(pairs) for pairs in runs), strict=True)
    longitudinal = [0.5 * (pairs["z0_1"] + pairs["z0_2"]) for pairs in runs]
    left = [value - design @ np.linalg.lstsq(design, value)[0] for design, value in zip(designs, values, strict=True)]
    spread, spread_z = _spread(left, 2), _spread([z - z.mean() for z in longitudinal], 1)
    found = []
    for design, value, z in zip(designs, values, longitudinal, strict=True):
        information, moment = np.zeros((3, 3)), np.zeros(3)
        information[:2, :2], moment[:2] = design.T @ design / spread, design.T @ value / spread
        information[2, 2], moment[2] = z.size / spread_z, z.sum() / spread_z
        best = np.linalg.pinv(information, hermitian=True) @ moment
        found.append(Measurement(information, moment, float(best @ moment), z.size))
    return found


def _transverse(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """One linear measurement of (x, y) per pair: both tracks share their vertex and are almost back to back."""
    sine = 0.5 * (np.sin(pairs["phi_2"]) - np.sin(pairs["phi_1"]))
    cosine = 0.5 * (np.cos(pairs["phi_1"]) - np.cos(pairs["phi_2"]))
    return np.stack([sine, cosine], axis=1), 0.5 * (pairs["d0_1"] - pairs["d0_2"])


def _spread(residuals: list[np.ndarray], parameters: int) -> float:
    freedom = sum(max(r.size - parameters, 0) for r in residuals)
    return sum(float(r @ r) for r in residuals) / max(freedom, 1)


def _joined(runs: Sequence[Pairs]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([pairs[key] for pairs in runs]) for key in runs[0]}


def fitted_beam_spot(pairs: Pairs) -> dict[str, np.ndarray] | None:
    """The columns of the payload, or ``None`` when the fit does not converge."""
    fit = Minuit(_Likelihood(pairs), _start(pairs), name=_PARAMETERS)
    fit.errordef = Minuit.LIKELIHOOD
    fit.migrad()
    fit.hesse()
    if not fit.valid:
        return None
    units = np.array([_MICRON] * 3 + [_MICRON**2] * 3)
    values, errors = np.array(fit.values) * units, np.array(fit.errors) * units
    columns = {name: np.array([value]) for name, value in zip(_PARAMETERS, values, strict=True)}
    columns |= {f"{name}_err": np.array([error]) for name, error in zip(_PARAMETERS, errors, strict=True)}
    return columns | {"events": np.array([pairs["phi_1"].size])}


def _start(pairs: Pairs) -> np.ndarray:
    design, value = _transverse(pairs)
    x, y = np.linalg.lstsq(design, value)[0] / _MICRON
    z = 0.5 * (pairs["z0_1"] + pairs["z0_2"]) / _MICRON
    return np.array([x, y, z.mean(), 250.0, 100.0, z.var()])


class _Likelihood:
    """Minus the logarithm of the likelihood of position and size, in µm and µm².

    The two impact parameters of a pair share the vertex, which makes them correlated; so do the two ``z0``.
    """

    def __init__(self, pairs: Pairs) -> None:
        phi = np.stack([pairs["phi_1"], pairs["phi_2"]])
        self._sine, self._cosine = np.sin(phi), np.cos(phi)
        self._impact = np.stack([pairs["d0_1"], pairs["d0_2"]]) / _MICRON
        self._variance = np.stack([pairs["d0_var_1"], pairs["d0_var_2"]]) / _MICRON**2
        self._z = 0.5 * (pairs["z0_1"] + pairs["z0_2"]) / _MICRON
        self._z_variance = 0.25 * (pairs["z0_var_1"] + pairs["z0_var_2"]) / _MICRON**2
        cot_theta = np.stack([pairs["cot_theta_1"], pairs["cot_theta_2"]])
        self._slope_x = 0.5 * (self._cosine * cot_theta).sum(axis=0)
        self._slope_y = 0.5 * (self._sine * cot_theta).sum(axis=0)

    def __call__(self, values: np.ndarray) -> float:
        x, y, z, size_xx, size_yy, size_zz = values
        (s1, s2), (c1, c2) = self._sine, self._cosine
        left = self._impact + x * self._sine - y * self._cosine
        v11 = size_xx * s1 * s1 + size_yy * c1 * c1 + self._variance[0]
        v22 = size_xx * s2 * s2 + size_yy * c2 * c2 + self._variance[1]
        v12 = size_xx * s1 * s2 + size_yy * c1 * c2
        determinant = v11 * v22 - v12 * v12
        left_z = self._z - z + x * self._slope_x + y * self._slope_y
        variance_z = size_zz + size_xx * self._slope_x**2 + size_yy * self._slope_y**2 + self._z_variance
        if np.any(determinant <= 0) or np.any(variance_z <= 0):
            return np.inf
        square = (v22 * left[0] ** 2 + v11 * left[1] ** 2 - 2 * v12 * left[0] * left[1]) / determinant
        return 0.5 * float(np.sum(square + np.log(determinant) + left_z**2 / variance_z + np.log(variance_z)))
