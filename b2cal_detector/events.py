"""What happens in collisions: event times, vertices, and the particles that cross the detector."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from b2cal_detector import geometry
from b2cal_detector.kinematics import boosted

Columns = Mapping[str, np.ndarray]
_ACCEPTED_COT_THETA = -1.7, 3.2
"""From 150 to 17 degrees."""
_RADIATIVE_FRACTION = 0.15
_RADIATED_ENERGY = 0.04


@dataclass(frozen=True, slots=True)
class Collisions:
    """Events of one file.

    Attributes:
        time: ns, shape (events,).
        vertex: cm, shape (events, 3).
        owner: index of the event each track belongs to, ascending, shape (tracks,).
        momentum: GeV/c, shape (tracks, 3).
        charge: +1 or -1, shape (tracks,).
    """

    time: np.ndarray
    vertex: np.ndarray
    owner: np.ndarray
    momentum: np.ndarray
    charge: np.ndarray


def muon_pairs(
    rng: np.random.Generator, count: int, *, beam_spot: Columns, boost: Columns, mass: Columns
) -> Collisions:
    """Events with a muon pair each, both muons inside the acceptance; some pairs have lost energy to radiation."""
    momenta: list[np.ndarray] = []
    vector = np.array([boost[axis][0] for axis in "xyz"])
    while sum(map(len, momenta)) < count:
        momenta.append(_pairs_inside(rng, count + 20, vector, mass))
    pairs = np.concatenate(momenta)[:count]
    first = rng.choice([-1, 1], count)
    return Collisions(
        time=_event_times(rng, count),
        vertex=_vertices(rng, count, beam_spot),
        owner=np.repeat(np.arange(count), 2),
        momentum=pairs.reshape(-1, 3),
        charge=np.stack([first, -first], axis=1).ravel(),
    )


def _pairs_inside(rng: np.random.Generator, count: int, boost: np.ndarray, mass: Columns) -> np.ndarray:
    radiated = np.where(rng.random(count) < _RADIATIVE_FRACTION, rng.exponential(_RADIATED_ENERGY, count), 0)
    energy = 0.5 * (mass["mass"][0] + rng.normal(0, mass["spread"][0], count) - radiated)
    size = np.sqrt(energy**2 - geometry.MUON_MASS**2)
    momentum = _directions(rng, count) * size[:, None]
    both = np.stack([boosted(momentum, energy, boost), boosted(-momentum, energy, boost)], axis=1)
    cot_theta = both[..., 2] / np.hypot(both[..., 0], both[..., 1])
    low, high = _ACCEPTED_COT_THETA
    return both[np.all((cot_theta > low) & (cot_theta < high), axis=1)]


def hadron_events(rng: np.random.Generator, count: int, *, beam_spot: Columns) -> Collisions:
    """Events with three to six tracks each, of 0.5 to 3 GeV/c across the field, in all directions."""
    tracks = rng.integers(3, 7, count)
    owner = np.repeat(np.arange(count), tracks)
    transverse = rng.uniform(0.5, 3.0, owner.size)
    azimuth = rng.uniform(-np.pi, np.pi, owner.size)
    cot_theta = rng.uniform(-1.3, 2.5, owner.size)
    momentum = transverse[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth), cot_theta], axis=1)
    return Collisions(
        time=_event_times(rng, count),
        vertex=_vertices(rng, count, beam_spot),
        owner=owner,
        momentum=momentum,
        charge=rng.choice([-1, 1], owner.size),
    )


def nothing() -> Collisions:
    """No event with a track."""
    return Collisions(np.zeros(0), np.zeros((0, 3)), np.zeros(0, dtype=np.int64), np.zeros((0, 3)), np.zeros(0))


def _event_times(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(0, geometry.EVENT_TIME_SPREAD, count)


def _vertices(rng: np.random.Generator, count: int, beam_spot: Columns) -> np.ndarray:
    position = np.array([beam_spot[axis][0] for axis in "xyz"])
    size = np.sqrt([beam_spot[f"size_{axis}{axis}"][0] for axis in "xyz"])
    return rng.normal(position, size, (count, 3))


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    cosine = rng.uniform(-0.85, 0.85, count)
    azimuth = rng.uniform(-np.pi, np.pi, count)
    sine = np.sqrt(1 - cosine**2)
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=1)
