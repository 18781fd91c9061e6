"""Muon pairs in cDST files, and what the beam spot adds to the knowledge of their tracks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from b2cal_core.errors import DataError
from b2cal_detector import geometry
from b2cal_detector.event_files import read_tree

Columns = Mapping[str, np.ndarray]


def read_pairs(file: Path, *columns: str) -> dict[str, np.ndarray]:
    """Columns of ``tracks`` with shape (events, 2); ``DataError`` when an event does not have exactly two tracks."""
    tracks = read_tree(file, "tracks", ("event", *columns))
    owner = tracks["event"]
    if owner.size % 2 or np.any(owner[::2] != owner[1::2]) or np.any(np.diff(owner[::2]) <= 0):
        msg = f"{file} has events without exactly two tracks; give this calibration muon pairs"
        raise DataError(msg)
    return {key: tracks[key].reshape(-1, 2) for key in columns}


@dataclass(frozen=True, slots=True)
class ConstrainedMuons:
    """Muons that were made to come from the beam spot.

    Attributes:
        momentum: GeV/c, shape (events, 2, 3).
        curvature_variance: of the signed curvature (1/cm), shape (events, 2).
    """

    momentum: np.ndarray
    curvature_variance: np.ndarray

    @classmethod
    def read(cls, file: Path, beam_spot: Columns) -> "ConstrainedMuons":
        """The pairs of a cDST file."""
        tracks = read_pairs(file, "a", "phi", "curvature", "cot_theta")
        sine, cosine = np.sin(tracks["phi"]), np.cos(tracks["phi"])
        impact = beam_spot["y"][0] * cosine - beam_spot["x"][0] * sine
        variance = beam_spot["size_xx"][0] * sine**2 + beam_spot["size_yy"][0] * cosine**2
        covariance = geometry.TRACK_COVARIANCE
        pull = (impact - tracks["a"]) / (covariance[0, 0] + variance)
        phi = tracks["phi"] + covariance[0, 1] * pull
        curvature = tracks["curvature"] + 2 * covariance[0, 2] * pull
        gained = covariance[0, 2] ** 2 / (covariance[0, 0] + variance)
        transverse = geometry.CURVATURE_TIMES_MOMENTUM / np.abs(curvature)
        direction = np.stack([np.cos(phi), np.sin(phi), tracks["cot_theta"].astype(np.float64)], axis=-1)
        return cls(transverse[..., None] * direction, 4 * (covariance[2, 2] - gained))
