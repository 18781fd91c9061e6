import json
from pathlib import Path

import numpy as np
import pytest
from quick_bucket import simulated
from quick_caf import Layers, MadePayload

from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import write_payload
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_detector import geometry, reconstruct_job
from b2cal_detector.event_files import read_tree
from b2cal_detector.muon_pairs import ConstrainedMuons
from b2cal_detector.nominal import write_nominal
from b2cal_detector.reconstruction import READS, reconstruct
from b2cal_detector.truth import Truth

RUN = ExpRun(12, 2)
MUONS = "mumu_tight_or_highm_calib"


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> dict[str, Path]:
    (record,) = simulated(1, tmp_path_factory.mktemp("raw"), first=RUN.run, count=1)
    return {file.tag: Path(file.path) for file in record.files}


def _true_conditions(*, leave_out: str = "") -> Layers:
    everywhere = IoV(0, 0, -1, -1)
    names = [name for name in Truth(1).names if name != leave_out]
    return Layers.nominal().on_top([MadePayload(name, everywhere, Truth(1).at(name, RUN)) for name in names])


def _cdst(raw: Path, target: Path, conditions: Layers) -> Path:
    reconstruct(raw, target, RUN, conditions)
    return target


def _mass_spread(cdst: Path) -> float:
    muons = ConstrainedMuons.read(cdst, Truth(1).at("BeamSpot", RUN)).momentum
    energy = np.sqrt(np.sum(muons**2, axis=-1) + geometry.MUON_MASS**2).sum(axis=1)
    mass = np.sqrt(energy**2 - np.sum(muons.sum(axis=1) ** 2, axis=-1))
    low, high = np.percentile(mass, [25, 75])
    return float(high - low)


def _top_spread(cdst: Path) -> float:
    low, high = np.percentile(read_tree(cdst, "tracks", ["top_time"])["top_time"], [25, 75])
    return float(high - low)


def _impact_spread(cdst: Path) -> float:
    tracks = read_tree(cdst, "tracks", ["phi", "d0"])
    spot = Truth(1).at("BeamSpot", RUN)
    return float(np.nanstd(tracks["d0"] - spot["y"] * np.cos(tracks["phi"]) + spot["x"] * np.sin(tracks["phi"])))


def test_true_constants_give_the_design_resolution(raw, tmp_path):
    good = _cdst(raw[MUONS], tmp_path / "good.root", _true_conditions())
    times = read_tree(good, "event_times", ["cdc", "t0"])
    assert np.std(times["cdc"] - times["t0"]) < 0.4
    assert _top_spread(good) < 0.4
    assert _impact_spread(good) < 25e-4
    assert np.all(read_tree(good, "tracks", ["svd_clusters"])["svd_clusters"] == geometry.SVD_LAYERS)


def test_uncalibrated_wires_spoil_momenta_and_times(raw, tmp_path):
    good = _cdst(raw[MUONS], tmp_path / "good.root", _true_conditions())
    spoiled = _cdst(raw[MUONS], tmp_path / "bad.root", _true_conditions(leave_out="CDCTimeZeros"))
    assert _mass_spread(spoiled) > 1.15 * _mass_spread(good)
    assert _top_spread(spoiled) > 1.2 * _top_spread(good)


def test_uncalibrated_sensors_spoil_times_and_lose_clusters(raw, tmp_path):
    good = _cdst(raw[MUONS], tmp_path / "good.root", _true_conditions())
    spoiled = _cdst(raw[MUONS], tmp_path / "bad.root", _true_conditions(leave_out="SVDTimeCalibrations"))
    clusters = read_tree(spoiled, "tracks", ["svd_clusters"])["svd_clusters"]
    assert clusters.mean() < 0.9 * geometry.SVD_LAYERS
    assert _top_spread(spoiled) > 1.6 * _top_spread(good)
    shift = np.mean(read_tree(spoiled, "event_times", ["t0"])["t0"] - read_tree(good, "event_times", ["t0"])["t0"])
    assert abs(shift) > 0.5


def test_each_tag_keeps_what_its_calibrations_need(raw, tmp_path):
    for tag, trees in {"bhabha_all_calib": ("tracks", "dedx", "ecl"), "gamma_gamma_calib": ("ecl",)}.items():
        made = _cdst(raw[tag], tmp_path / f"{tag}.root", _true_conditions())
        assert len(read_tree(made, "tree")["event"]) == len(read_tree(raw[tag], "tree")["event"])
        for tree in trees:
            assert read_tree(made, tree)


def test_pairs_need_exactly_two_tracks(raw, tmp_path):
    hadrons = _cdst(raw["hadron_calib"], tmp_path / "hadrons.root", _true_conditions())
    with pytest.raises(DataError, match="exactly two tracks"):
        ConstrainedMuons.read(hadrons, Truth(1).at("BeamSpot", RUN))


def _job(directory: Path, source: Path, databases: list[Path]) -> Path:
    described = {
        "input": str(source),
        "output": str(directory / "out" / "cdst.root"),
        "exp": 12,
        "run": 2,
        "tag": MUONS,
    }
    directory.mkdir()
    (directory / "cdst_job.json").write_text(json.dumps(described | {"databases": [str(path) for path in databases]}))
    return directory / "out" / "cdst.root"


def test_the_job_uses_the_first_database_that_has_a_payload(raw, tmp_path):
    write_nominal(tmp_path / "nominal")
    for name in READS:
        write_payload(tmp_path / "true.root", name, Truth(1).at(name, RUN))
        LocalDatabase(tmp_path / "better").add(name, tmp_path / "true.root", IoV(12, 2, 12, 2))
    plain = _job(tmp_path / "a", raw[MUONS], [tmp_path / "nominal"])
    better = _job(tmp_path / "b", raw[MUONS], [tmp_path / "better", tmp_path / "nominal"])
    assert reconstruct_job.main([str(tmp_path / "a")]) == reconstruct_job.main([str(tmp_path / "b")]) == 0
    assert _top_spread(better) < 0.6 * _top_spread(plain)
    assert [path.name for path in plain.parent.iterdir()] == ["cdst.root"]


def test_a_job_without_constants_fails_with_the_name_of_the_payload(raw, tmp_path):
    made = _job(tmp_path / "a", raw[MUONS], [tmp_path / "nothing"])
    with pytest.raises(DataError, match="CDCTimeZeros"):
        reconstruct_job.main([str(tmp_path / "a")])
    assert not made.exists()


def test_a_job_description_that_is_not_whole_is_refused(tmp_path):
    (tmp_path / "cdst_job.json").write_text('{"input": "x"}')
    with pytest.raises(ConfigurationError, match="must be a JSON object"):
        reconstruct_job.main([str(tmp_path)])
