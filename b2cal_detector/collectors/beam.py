"""Collectors of muon pairs for the beam spot, the boost vector and the collision energy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from b2cal_caf.calibration import Collectable, Collector, ConditionsReader, Sums, Table
from b2cal_core.ranges import ExpRun
from b2cal_detector import geometry
from b2cal_detector.kinematics import energy_in_frame, muon_energy
from b2cal_detector.muon_pairs import ConstrainedMuons, read_pairs


@dataclass(frozen=True, slots=True)
class BeamSpotCollector(Collector):
    """Lists the pairs whose tracks both have a vertex-detector cluster in time.

    Collected ``pairs``, with ``_1`` and ``_2`` for the two tracks: ``phi``, ``cot_theta``, ``d0`` and ``z0`` (cm) and
    their design variances ``d0_var``, ``z0_var``.
    """

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The pairs of one file."""
        del run, conditions  # the tracks are taken as they were reconstructed
        tracks = read_pairs(file, "phi", "cot_theta", "d0", "z0", "svd_clusters")
        kept = np.all(tracks["svd_clusters"] > 0, axis=1)
        clusters = np.maximum(tracks.pop("svd_clusters"), 1)
        tracks["d0_var"] = geometry.SVD_POSITION_RESOLUTION**2 / clusters
        tracks["z0_var"] = geometry.SVD_Z_RESOLUTION**2 / clusters
        return {
            "pairs": Table({f"{k}_{i + 1}": v[kept, i].astype(np.float64) for k, v in tracks.items() for i in (0, 1)})
        }


@dataclass(frozen=True, slots=True)
class BoostCollector(Collector):
    """Sums up the velocity of muon pairs that come from the beam spot.

    Collected ``velocity``, one entry per axis, in units of that of light: ``n``, ``sum`` and ``square``.
    """

    reads: ClassVar[tuple[str, ...]] = ("BeamSpot",)

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The sums of one file."""
        momentum = ConstrainedMuons.read(file, conditions.columns("BeamSpot", run)).momentum
        velocity = momentum.sum(axis=1) / muon_energy(momentum).sum(axis=1)[:, None]
        count = np.full(3, float(len(velocity)))
        return {"velocity": Sums({"n": count, "sum": velocity.sum(axis=0), "square": (velocity**2).sum(axis=0)})}


@dataclass(frozen=True, slots=True)
class CollisionEnergyCollector(Collector):
    """Lists the mass of each muon pair, from both energies in the frame in which the collision is at rest.

    Collected ``pairs``: ``mass``, made such that errors of curvature shift it linearly, and ``mass_err`` (GeV),
    expected from the directions alone.
    """

    reads: ClassVar[tuple[str, ...]] = ("BeamSpot", "CollisionBoostVector", "CollisionInvariantMass")

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The masses of one file."""
        muons = ConstrainedMuons.read(file, conditions.columns("BeamSpot", run))
        vector = conditions.columns("CollisionBoostVector", run)
        boost = np.array([vector[axis][0] for axis in "xyz"])
        expected = conditions.columns("CollisionInvariantMass", run)["mass"][0]
        energy = energy_in_frame(muons.momentum, boost)
        square = np.sqrt(np.prod(energy**2 - geometry.MUON_MASS**2, axis=1))
        mass_square = 4 * (square + geometry.MUON_MASS**2)
        mass = 0.5 * expected * (3 - expected**2 / mass_square)
        return {"pairs": Table({"mass": mass, "mass_err": expected_mass_error(muons, boost, expected)})}


def expected_mass_error(muons: ConstrainedMuons, boost: np.ndarray, mass: float) -> np.ndarray:
    """Resolution of the mass of each pair (GeV) from track errors, for muons of half the collision energy each."""
    direction = muons.momentum / np.linalg.norm(muons.momentum, axis=-1, keepdims=True)
    gamma = 1 / np.sqrt(1 - boost @ boost)
    momentum = 0.5 * mass / (gamma * (1 - direction @ boost))
    cosine = direction[..., 2]
    sine = np.sqrt(1 - cosine**2)
    of_curvature = np.sqrt(muons.curvature_variance) * momentum * sine / geometry.CURVATURE_TIMES_MOMENTUM
    of_angle = (boost[2] * sine / (1 - boost[2] * cosine) - cosine / sine) * geometry.COT_THETA_RESOLUTION
    relative: np.ndarray = np.sqrt(np.sum(of_curvature**2 + of_angle**2, axis=1))
    return 0.5 * mass * relative
