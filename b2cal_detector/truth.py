"""The true constants of the reference detector in any run, with the names and columns of their payloads."""

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun
from b2cal_detector import geometry
from b2cal_detector.drifts import generator, jump_level, scatter, smooth_drift

Columns = dict[str, np.ndarray]

_ECL_NAMES = ("ECLCrystalEnergy", "ECLCrystalEnergyee5x5", "ECLCrystalEnergyGammaGamma")


class Truth:
    """The truth of one simulated detector; equal seeds give equal detectors.

    Wire time zeros have a mean of 0 and wire gains one of 1 in every run, which is the gauge of their calibrations.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._of_name: Mapping[str, Callable[[ExpRun], Columns]] = {
            "CDCTimeZeros": self._cdc_time_zeros,
            "SVDTimeCalibrations": self._svd_time,
            "TOPCalCommonT0": self._top_common_t0,
            "CDCDedxRunGain": self._dedx_run_gain,
            "CDCDedxWireGain": self._dedx_wire_gain,
            "BeamSpot": self._beam_spot,
            "CollisionBoostVector": self._boost_vector,
            "CollisionInvariantMass": self._invariant_mass,
            **dict.fromkeys(_ECL_NAMES, self._ecl_energy),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The payloads that have a truth."""
        return tuple(self._of_name)

    def at(self, name: str, run: ExpRun) -> Columns:
        """The true columns in one run."""
        if name not in self._of_name:
            msg = f"the reference detector has no truth for payload {name!r}; it has {', '.join(self._of_name)}"
            raise ConfigurationError(msg)
        return self._of_name[name](run)

    def averaged(self, name: str, weights: Mapping[ExpRun, float]) -> Columns:
        """What an unbiased calibration of these runs estimates: the mean over runs, each with its weight (events).

        The size of the beam spot also holds the scatter of its position from run to run.
        """
        if not weights:
            msg = f"no run was given over which the truth of {name} could be averaged"
            raise ConfigurationError(msg)
        share = np.array(list(weights.values()), dtype=np.float64)
        share /= share.sum()
        each = [self.at(name, run) for run in weights]
        mean = {key: np.tensordot(share, np.stack([c[key] for c in each]), axes=1) for key in each[0]}
        if name == "BeamSpot":
            for axis in "xyz":
                offsets = np.stack([c[axis] for c in each]) - mean[axis]
                mean[f"size_{axis}{axis}"] = mean[f"size_{axis}{axis}"] + np.tensordot(share, offsets**2, axes=1)
        return mean

    def _cdc_time_zeros(self, run: ExpRun) -> Columns:
        change = 0.15 * smooth_drift(self.seed, "CDCTimeZeros", run)
        return {"t0": self._wire_offsets + change * self._wire_drifts}

    @cached_property
    def _wire_offsets(self) -> np.ndarray:
        rng = generator(self.seed, "CDCTimeZeros")
        boards = rng.normal(0, 3.0, geometry.CDC_WIRES // geometry.CDC_WIRES_PER_BOARD)
        offsets = rng.normal(0, 2.0, geometry.CDC_WIRES) + np.repeat(boards, geometry.CDC_WIRES_PER_BOARD)
        centred: np.ndarray = offsets - offsets.mean()
        return centred

    @cached_property
    def _wire_drifts(self) -> np.ndarray:
        directions = generator(self.seed, "CDCTimeZeros/direction").normal(0, 1.0, geometry.CDC_WIRES)
        centred: np.ndarray = directions - directions.mean()
        return centred

    def _svd_time(self, run: ExpRun) -> Columns:
        rng = generator(self.seed, "SVDTimeCalibrations")
        offset = geometry.SVD_NOMINAL_OFFSET + rng.normal(0, 4.0, geometry.SVD_SENSORS)
        slope = geometry.SVD_NOMINAL_SLOPE * (1 + rng.normal(0, 0.04, geometry.SVD_SENSORS))
        latency = 4.0 * jump_level(self.seed, "SVDTimeCalibrations", run, every=20)
        return {"offset": offset + latency, "slope": slope}

    def _top_common_t0(self, run: ExpRun) -> Columns:
        drift = 0.3 * smooth_drift(self.seed, "TOPCalCommonT0", run)
        own = 0.03 * scatter(self.seed, "TOPCalCommonT0", run)
        return {"t0": np.array([1.3 + drift + own])}

    def _dedx_run_gain(self, run: ExpRun) -> Columns:
        weather = 0.04 * smooth_drift(self.seed, "CDCDedxRunGain", run)
        return {"gain": np.array([1 + weather + 0.01 * scatter(self.seed, "CDCDedxRunGain", run)])}

    def _dedx_wire_gain(self, run: ExpRun) -> Columns:
        del run  # wires keep their gain
        gains = 1 + generator(self.seed, "CDCDedxWireGain").normal(0, 0.05, geometry.CDC_WIRES)
        return {"gain": gains / gains.mean()}

    def _ecl_energy(self, run: ExpRun) -> Columns:
        rng = generator(self.seed, "ECLCrystalEnergy")
        gains = 1 + np.clip(rng.normal(0, 0.08, geometry.ECL_CRYSTALS), -0.4, 0.4)
        ageing = rng.uniform(0, 1e-5, geometry.ECL_CRYSTALS)
        return {"constant": 1 / (gains * (1 - ageing * run.run))}

    def _beam_spot(self, run: ExpRun) -> Columns:
        rng = generator(self.seed, "BeamSpot")
        position = np.array([-0.040, 0.020, 0.030]) + rng.normal(0, [0.005, 0.005, 0.01])
        position += np.array([25e-4, -15e-4, 100e-4]) * jump_level(self.seed, "BeamSpot", run, every=10)
        position += np.array([0.5e-4, 0.3e-4, 5e-4]) * smooth_drift(self.seed, "BeamSpot", run)
        size = np.array([16e-4, 10e-4, 300e-4]) * (1 + 0.05 * rng.uniform(-1, 1, 3))
        return {
            **{axis: position[[i]] for i, axis in enumerate("xyz")},
            **{f"size_{axis}{axis}": size[[i]] ** 2 for i, axis in enumerate("xyz")},
        }

    def _boost_vector(self, run: ExpRun) -> Columns:
        base = np.array([0.0415, 0.0, 0.2730]) + generator(self.seed, "CollisionBoostVector").normal(0, 2e-4, 3)
        vector = base + 1e-5 * smooth_drift(self.seed, "CollisionBoostVector", run)
        return {axis: vector[[i]] for i, axis in enumerate("xyz")}

    def _invariant_mass(self, run: ExpRun) -> Columns:
        base = 10.5796 + generator(self.seed, "CollisionInvariantMass").normal(0, 1e-3)
        mass = base + 2e-4 * smooth_drift(self.seed, "CollisionInvariantMass", run)
        return {"mass": np.array([mass]), "spread": np.array([5.2e-3])}
