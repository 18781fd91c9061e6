"""Reconstruction of raw files into cDST: event times, tracks, vertex-detector impact, and what later steps calibrate.

It uses ``CDCTimeZeros`` and ``SVDTimeCalibrations``; where these are wrong, so are event times, momenta and impact
parameters.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from b2cal_caf.calibration import ConditionsReader
from b2cal_core.ranges import ExpRun
from b2cal_detector import geometry
from b2cal_detector.event_files import EVENTS, read_trees, write_events
from b2cal_detector.track_fit import CdcEvents

Columns = Mapping[str, np.ndarray]
Trees = dict[str, dict[str, np.ndarray]]
READS = ("CDCTimeZeros", "SVDTimeCalibrations")
"""The payloads it takes from the conditions."""


def reconstruct(source: Path, target: Path, run: ExpRun, conditions: ConditionsReader) -> int:
    """Write the cDST file of a raw file atomically; returns the number of events."""
    trees = read_trees(source, {EVENTS: None, "tracks": None, "ecl": None}, optional=True)
    if "tracks" in trees:
        time_zeros, svd = (conditions.columns(name, run) for name in READS)
        trees |= reconstruct_tracks(trees["tracks"], time_zeros, svd)
    write_events(target, trees, f"cdst of {source.name}")
    return len(trees[EVENTS]["event"])


def reconstruct_tracks(raw: Columns, time_zeros: Columns, svd: Columns) -> Trees:
    """The trees ``event_times`` and ``tracks``, and ``dedx`` where the raw tracks have charges."""
    hits = CdcEvents.of(raw, time_zeros["t0"])
    cdc = hits.event_times()
    cluster_times = (raw["svd_time"] - svd["offset"][raw["svd_sensor"]]) / svd["slope"][raw["svd_sensor"]]
    times = combined_times(hits.owner, cluster_times, cdc.value, cdc.variance)
    found = np.unique(hits.owner)
    event_times = {"event": found.astype(np.int32), "cdc": cdc.value[found], "t0": times[found]}
    trees: Trees = {
        "event_times": event_times,
        "tracks": _tracks(raw, hits.parabolas(times), times[hits.owner], cluster_times),
    }
    if "cdc_charge" in raw:
        trees["dedx"] = {"wire": raw["cdc_wire"], "charge": raw["cdc_charge"]}
    return trees


def combined_times(owner: np.ndarray, clusters: np.ndarray, cdc: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Event times from the drift chamber and the clusters of the event's tracks, weighted by their design errors."""
    weight = (geometry.SVD_NOMINAL_SLOPE / geometry.SVD_TIME_RESOLUTION) ** 2
    total = np.bincount(owner, clusters.sum(axis=1), cdc.size) * weight
    weights = np.bincount(owner, minlength=cdc.size) * geometry.SVD_LAYERS * weight
    own = np.divide(1, variance, out=np.zeros_like(variance), where=variance > 0)
    times: np.ndarray = np.divide(total + cdc * own, weights + own, out=np.zeros_like(cdc), where=weights + own > 0)
    return times


def _tracks(raw: Columns, parabolas: np.ndarray, times: np.ndarray, clusters: np.ndarray) -> dict[str, np.ndarray]:
    """Tracks of the drift chamber, with the impact parameters of the clusters that are in time; NaN where none is."""
    in_time = np.abs(clusters - times[:, None]) < geometry.SVD_TIME_WINDOW
    count = in_time.sum(axis=1)
    return {
        "event": raw["event"],
        "a": parabolas[:, 0],
        "phi": geometry.wrapped(raw["seed"] + parabolas[:, 1]),
        "curvature": 2 * parabolas[:, 2],
        "cot_theta": raw["cot_theta"],
        "top_time": raw["top_time"] - times.astype(np.float32),
        "svd_clusters": count.astype(np.uint8),
        "d0": _mean(raw["svd_position"], in_time, count),
        "z0": _mean(raw["svd_z"], in_time, count),
    }


def _mean(values: np.ndarray, chosen: np.ndarray, count: np.ndarray) -> np.ndarray:
    total = np.where(chosen, values.astype(np.float64), 0).sum(axis=1)
    mean: np.ndarray = np.divide(total, count, out=np.full(count.size, np.nan), where=count > 0)
    return mean
