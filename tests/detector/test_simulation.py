from pathlib import Path

import numpy as np
import pytest

from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ranges import ExpRun
from b2cal_detector import geometry
from b2cal_detector.event_files import read_tree
from b2cal_detector.feed import kind_of, plan_run, plan_runs
from b2cal_detector.simulation import TAGS, simulate_run
from b2cal_detector.truth import Truth

SCALE = 0.1


def _run_of(kind: str) -> ExpRun:
    return next(ExpRun(12, number) for number in range(1, 60) if kind_of(1, ExpRun(12, number)) == kind)


def test_a_run_is_the_same_bytes_wherever_it_is_made(tmp_path):
    run = plan_run(1, ExpRun(12, 4))
    simulate_run(Truth(1), plan_run(1, ExpRun(12, 3)), tmp_path / "b", scale=SCALE)
    first = simulate_run(Truth(1), run, tmp_path / "a", scale=SCALE)
    second = simulate_run(Truth(1), run, tmp_path / "b", scale=SCALE)
    assert [file.checksum for file in first.files] == [file.checksum for file in second.files]


def test_files_that_are_there_are_not_made_again(tmp_path):
    run = plan_run(1, ExpRun(12, 4))
    first = simulate_run(Truth(1), run, tmp_path, scale=SCALE)
    stamps = [Path(file.path).stat().st_mtime_ns for file in first.files]
    assert simulate_run(Truth(1), run, tmp_path, scale=SCALE) == first
    assert [Path(file.path).stat().st_mtime_ns for file in first.files] == stamps


def test_files_of_another_seed_are_refused_and_left_alone(tmp_path):
    run = plan_run(1, ExpRun(12, 4))
    first = simulate_run(Truth(1), run, tmp_path, scale=SCALE)
    with pytest.raises(ConfigurationError, match="seed 1"):
        simulate_run(Truth(2), run, tmp_path, scale=SCALE)
    assert simulate_run(Truth(1), run, tmp_path, scale=SCALE) == first


def test_a_physics_run_has_every_tag_and_the_events_it_says(tmp_path):
    record = simulate_run(Truth(1), plan_run(1, _run_of("good")), tmp_path, scale=SCALE)
    assert {file.tag for file in record.files} == set(TAGS)
    assert [file.tag for file in record.files].count("hadron_calib") == 2
    for file in record.files:
        assert len(read_tree(Path(file.path), "tree")["event"]) == file.events > 0
        assert Path(file.path).stat().st_size == file.size
        assert Path(file.path).parent.name == "raw"


def test_no_half_written_file_is_left(tmp_path):
    record = simulate_run(Truth(1), plan_run(1, _run_of("good")), tmp_path, scale=SCALE)
    assert {str(path) for path in tmp_path.rglob("*") if path.is_file()} == {file.path for file in record.files}


def test_cosmic_runs_have_no_collision_data(tmp_path):
    record = simulate_run(Truth(1), plan_run(1, _run_of("cosmic")), tmp_path, scale=SCALE)
    assert {file.tag for file in record.files} == {"hadron_calib"}


def test_short_runs_have_few_events(tmp_path):
    short, good = (
        simulate_run(Truth(1), plan_run(1, _run_of(kind)), tmp_path, scale=SCALE) for kind in ("short", "good")
    )
    tag = "mumu_tight_or_highm_calib"
    assert 0 < short.events(tag) < 0.2 * good.events(tag)


def test_hits_lie_on_wires_of_their_layer_within_its_cells(tmp_path):
    record = simulate_run(Truth(1), plan_runs(1, 12, 2, 1)[0], tmp_path, scale=SCALE)
    file = next(file for file in record.files if file.tag == "mumu_tight_or_highm_calib")
    tracks = read_tree(Path(file.path), "tracks")
    layer = np.searchsorted(geometry.CDC_FIRST_WIRE, tracks["cdc_wire"], side="right") - 1
    assert np.array_equal(layer, np.broadcast_to(np.arange(geometry.CDC_LAYERS), layer.shape))
    assert set(np.unique(tracks["cdc_side"])) == {-1, 1}
    assert tracks["svd_sensor"].max() < geometry.SVD_SENSORS


def test_a_damaged_file_is_named(tmp_path):
    record = simulate_run(Truth(1), plan_runs(1, 12, 2, 1)[0], tmp_path, scale=SCALE)
    path = Path(record.files[0].path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=path.name):
        read_tree(path, "tree")
