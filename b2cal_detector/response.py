"""What the detector makes of collisions: the raw columns of a file, from true particles and true constants."""

from collections.abc import Mapping

import numpy as np

from b2cal_detector import geometry
from b2cal_detector.events import Collisions

Columns = dict[str, np.ndarray]
Constants = Mapping[str, Mapping[str, np.ndarray]]


def raw_tracks(rng: np.random.Generator, collisions: Collisions, constants: Constants) -> Columns:
    """One row per track: seed direction, drift-chamber hits, vertex-detector clusters and the TOP time.

    Columns of hits have one entry per layer. Pattern recognition is taken to be perfect: a row holds the hits of one
    particle, and ``side`` says on which side of its wire the particle passed.
    """
    azimuth = np.arctan2(collisions.momentum[:, 1], collisions.momentum[:, 0])
    seed = (azimuth + rng.normal(0, 0.02, azimuth.size)).astype(np.float32)
    transverse = np.hypot(collisions.momentum[:, 0], collisions.momentum[:, 1])
    cot_theta = collisions.momentum[:, 2] / transverse
    time = collisions.time[collisions.owner]
    noise = rng.normal(0, geometry.COT_THETA_RESOLUTION, azimuth.size) * (1 + cot_theta**2)
    top = time + constants["TOPCalCommonT0"]["t0"][0] + rng.normal(0, geometry.TOP_TIME_RESOLUTION, azimuth.size)
    vertex = collisions.vertex[collisions.owner]
    impact = vertex[:, 1] * np.cos(azimuth) - vertex[:, 0] * np.sin(azimuth)
    along = vertex[:, 0] * np.cos(azimuth) + vertex[:, 1] * np.sin(azimuth)
    curvature = collisions.charge * geometry.CURVATURE_TIMES_MOMENTUM / transverse
    parabola = np.stack([impact, azimuth - seed, curvature / 2], axis=1)
    return {
        "event": collisions.owner.astype(np.int32),
        "seed": seed,
        "cot_theta": (cot_theta + noise).astype(np.float32),
        "top_time": top.astype(np.float32),
        **_cdc_hits(rng, seed, parabola, time, constants["CDCTimeZeros"]["t0"]),
        **_svd_clusters(rng, impact, vertex[:, 2] - along * cot_theta, time, constants["SVDTimeCalibrations"]),
    }


def _cdc_hits(
    rng: np.random.Generator,
    seed: np.ndarray,
    parabola: np.ndarray,
    time: np.ndarray,
    time_zeros: np.ndarray,
) -> Columns:
    passed = parabola @ geometry.TRACK_BASIS.T
    angle = seed[:, None].astype(np.float64) + passed / geometry.CDC_RADII
    pitch = 2 * np.pi / geometry.CDC_WIRES_PER_LAYER
    number = np.rint(angle / pitch - 0.5 * (np.arange(geometry.CDC_LAYERS) % 2)).astype(np.int64)
    wires = number % geometry.CDC_WIRES_PER_LAYER + geometry.CDC_FIRST_WIRE
    distance = geometry.CDC_RADII * geometry.wrapped(angle - geometry.wire_angles(wires))
    side = np.where(distance < 0, -1, 1)
    noise = rng.normal(0, geometry.CDC_TIME_RESOLUTION, wires.shape)
    measured = np.abs(distance) / geometry.DRIFT_VELOCITY + time[:, None] + time_zeros[wires] + noise
    return {
        "cdc_wire": wires.astype(np.uint16),
        "cdc_time": measured.astype(np.float32),
        "cdc_side": side.astype(np.int8),
    }


def _svd_clusters(
    rng: np.random.Generator,
    impact: np.ndarray,
    z0: np.ndarray,
    time: np.ndarray,
    calibration: Mapping[str, np.ndarray],
) -> Columns:
    shape = impact.size, geometry.SVD_LAYERS
    sensors = geometry.SVD_FIRST_SENSOR + (rng.random(shape) * geometry.SVD_SENSORS_PER_LAYER).astype(np.int64)
    raw = calibration["offset"][sensors] + calibration["slope"][sensors] * time[:, None]
    return {
        "svd_sensor": sensors.astype(np.uint8),
        "svd_time": (raw + rng.normal(0, geometry.SVD_TIME_RESOLUTION, shape)).astype(np.float32),
        "svd_position": rng.normal(impact[:, None], geometry.SVD_POSITION_RESOLUTION, shape).astype(np.float32),
        "svd_z": rng.normal(z0[:, None], geometry.SVD_Z_RESOLUTION, shape).astype(np.float32),
    }


def charges(rng: np.random.Generator, wires: np.ndarray, constants: Constants) -> np.ndarray:
    """Charge of each drift-chamber hit of electrons, path length divided out; 1 where all gains are 1."""
    shape = 1 / geometry.DEDX_RESOLUTION**2
    gain = constants["CDCDedxWireGain"]["gain"][wires] * constants["CDCDedxRunGain"]["gain"][0]
    charge: np.ndarray = (gain * rng.gamma(shape, 1 / shape, wires.shape)).astype(np.float32)
    return charge


def ecl_clusters(rng: np.random.Generator, events: int, resolution: float, constants: Constants) -> Columns:
    """Two clusters per event: the crystal hit, its uncalibrated signal, and the energy known from kinematics."""
    crystal = rng.integers(0, geometry.ECL_CRYSTALS, 2 * events)
    expected = 5.5 - 1.4 * (2 * crystal / geometry.ECL_CRYSTALS - 1)
    response = rng.normal(1, resolution, crystal.size)
    return {
        "event": np.repeat(np.arange(events, dtype=np.int32), 2),
        "crystal": crystal.astype(np.uint16),
        "signal": (expected * response / constants["ECLCrystalEnergy"]["constant"][crystal]).astype(np.float32),
        "expected": expected.astype(np.float32),
    }
