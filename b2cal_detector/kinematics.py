"""Relativistic kinematics of muons, vectorised; momenta have shape (n, 3)."""

import numpy as np

from b2cal_detector.geometry import MUON_MASS


def muon_energy(momentum: np.ndarray) -> np.ndarray:
    """Energy of muons, shape (n,)."""
    energy: np.ndarray = np.sqrt(np.sum(momentum**2, axis=-1) + MUON_MASS**2)
    return energy


def boosted(momentum: np.ndarray, energy: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """The momenta seen from where their frame moves with ``velocity``, shape (3,), in units of that of light."""
    square = float(velocity @ velocity)
    gamma = 1 / np.sqrt(1 - square)
    along = momentum @ velocity
    factor = gamma * energy + along * ((gamma - 1) / square if square else 0.5)
    seen: np.ndarray = momentum + factor[:, None] * velocity
    return seen


def energy_in_frame(momentum: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Energy of muons in the frame that moves with ``velocity``."""
    gamma = float(1 / np.sqrt(1 - float(velocity @ velocity)))
    energy: np.ndarray = gamma * (muon_energy(momentum) - momentum @ velocity)
    return energy
