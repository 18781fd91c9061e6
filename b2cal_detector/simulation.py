"""Simulation of runs: the raw files of every data tag, and the run's record with files, events and checksums.

A file depends on seed, run, tag and number alone, and is the same bytes whenever it is made.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from b2cal_core.errors import ConfigurationError
from b2cal_core.runs import DataFile, RunRecord
from b2cal_detector import geometry
from b2cal_detector.drifts import generator
from b2cal_detector.event_files import EVENTS, origin_of, write_events
from b2cal_detector.events import Collisions, hadron_events, muon_pairs, nothing
from b2cal_detector.response import Constants, charges, ecl_clusters, raw_tracks
from b2cal_detector.truth import Truth

Trees = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class TagPlan:
    """What a data tag records: events per minute, events with tracks per minute, files per run, and ECL resolution."""

    events_per_minute: float
    tracked_per_minute: float
    files: int = 1
    ecl_resolution: float | None = None


TAGS: Mapping[str, TagPlan] = {
    "hadron_calib": TagPlan(5.0, 5.0, files=2),
    "mumu_tight_or_highm_calib": TagPlan(6.0, 6.0),
    "bhabha_all_calib": TagPlan(120.0, 6.0, ecl_resolution=geometry.ECL_RESOLUTION_BHABHA),
    "gamma_gamma_calib": TagPlan(80.0, 0.0, ecl_resolution=geometry.ECL_RESOLUTION_GAMMA),
}
"""Tracks of the Bhabha events are prescaled; only hadron and cosmic events are recorded in a cosmic run."""


def simulate_run(truth: Truth, run: RunRecord, directory: Path, *, scale: float = 1.0) -> RunRecord:
    """Write the run's raw files below ``directory``, and return its record with them.

    Args:
        truth: the detector.
        run: the run as ``plan_run`` gives it; its duration says how many events it has.
        directory: files go to ``e0012r00001/..`` style folders in it; one that is there already is not made again.
        scale: factor on the number of events.

    Raises:
        ConfigurationError: a file that is there was made from another seed or scale.
    """
    tags = ["hadron_calib"] if run.run_type == "cosmic" else list(TAGS)
    files = [
        _data_file(truth, run, directory, tag=tag, number=number, scale=scale)
        for tag in tags
        for number in range(TAGS[tag].files)
    ]
    return replace(run, files=tuple(files))


def raw_path(directory: Path, run: RunRecord, tag: str, number: int) -> Path:
    """Where a raw file of a run lies."""
    exp, no = run.run
    return directory / f"e{exp:04d}" / f"r{no:05d}" / tag / "raw" / f"{tag}_e{exp:04d}r{no:05d}_f{number}.root"


def _data_file(truth: Truth, run: RunRecord, directory: Path, *, tag: str, number: int, scale: float) -> DataFile:
    path = raw_path(directory, run, tag, number).absolute()
    plan = TAGS[tag]
    minutes = (run.ended - run.started).total_seconds() / 60 * scale / plan.files
    events, tracked = (max(1, round(minutes * rate)) for rate in (plan.events_per_minute, plan.tracked_per_minute))
    constants = _constants(truth, run)
    origin = f"seed {truth.seed}, {run.run}, {tag}, file {number}, {events} events, constants {_digest(constants)}"
    if path.exists():
        _require_origin(path, origin)
    else:
        rng = generator(truth.seed, f"data/{tag}", *run.run, number)
        write_events(path, _trees(rng, constants, tag=tag, events=events, tracked=tracked), origin)
    content = path.read_bytes()
    return DataFile(str(path), tag, "raw", events, len(content), hashlib.sha256(content).hexdigest())


def _require_origin(path: Path, origin: str) -> None:
    found = origin_of(path)
    if found != origin:
        msg = f"{path} was made from {found or 'something unknown'}, wanted is {origin}; use another home or remove it"
        raise ConfigurationError(msg)


def _digest(constants: Constants) -> str:
    digest = hashlib.sha256()
    for name, columns in constants.items():
        for column, values in columns.items():
            digest.update(f"{name}.{column}".encode() + values.tobytes())
    return digest.hexdigest()[:12]


def _trees(rng: np.random.Generator, constants: Constants, *, tag: str, events: int, tracked: int) -> Trees:
    plan = TAGS[tag]
    trees: Trees = {EVENTS: {"event": np.arange(events, dtype=np.int32)}}
    if plan.tracked_per_minute:
        trees["tracks"] = raw_tracks(rng, _collisions(rng, tag, tracked, constants), constants)
    if plan.ecl_resolution is not None:
        trees["ecl"] = ecl_clusters(rng, events, plan.ecl_resolution, constants)
    if plan.tracked_per_minute and plan.ecl_resolution is not None:
        trees["tracks"]["cdc_charge"] = charges(rng, trees["tracks"]["cdc_wire"], constants)
    return trees


def _collisions(
    rng: np.random.Generator,
    tag: str,
    count: int,
    constants: Constants,
) -> Collisions:
    if count == 0:
        return nothing()
    if tag == "hadron_calib":
        return hadron_events(rng, count, beam_spot=constants["BeamSpot"])
    return muon_pairs(
        rng,
        count,
        beam_spot=constants["BeamSpot"],
        boost=constants["CollisionBoostVector"],
        mass=constants["CollisionInvariantMass"],
    )


def _constants(truth: Truth, run: RunRecord) -> dict[str, dict[str, np.ndarray]]:
    """The truth of the run; in runs that are not even recoverable the detector was out of order."""
    constants = {name: truth.at(name, run.run) for name in truth.names}
    if "Good Or Recoverable" not in run.quality:
        rng = generator(truth.seed, "data/fault", *run.run)
        constants["CDCTimeZeros"] = {"t0": constants["CDCTimeZeros"]["t0"] + rng.normal(0, 20, geometry.CDC_WIRES)}
        constants["CDCDedxRunGain"] = {"gain": constants["CDCDedxRunGain"]["gain"] * 0.6}
        constants["ECLCrystalEnergy"] = {"constant": constants["ECLCrystalEnergy"]["constant"] * 1.2}
        constants["TOPCalCommonT0"] = {"t0": constants["TOPCalCommonT0"]["t0"] + 5}
        constants["BeamSpot"] = {**constants["BeamSpot"], "x": constants["BeamSpot"]["x"] + 0.1}
    return constants
