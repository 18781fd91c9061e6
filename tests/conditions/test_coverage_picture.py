"""The coverage map: what is in the picture, down to a gap of one run among thousands."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from b2cal_core.errors import ConfigurationError
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_reports import Coverage, coverage
from resources.conditions.coverage_picture import draw_coverage

RUNS = [ExpRun(7, run) for run in range(10, 22)] + [ExpRun(8, run) for run in range(1, 9)]
WANTED = IoV(7, 10, 8, 8)
GAP, OVERLAP, COVERED = (0xD7, 0x19, 0x1C), (0x1A, 0x1A, 0x1A), (0x86, 0xB0, 0xD9)


def link(name: str, revision: int, *iov: int) -> TagIov:
    return TagIov(name, revision, IoV(*iov))


def map_of(*links: TagIov, runs: list[ExpRun] = RUNS, wanted: IoV = WANTED) -> tuple[Coverage, ...]:
    return coverage(links, wanted, runs=runs)


def columns(file: Path, colour: tuple[int, int, int]) -> int:
    """How many pixels wide the longest bar of this colour is, taken over rows in which it is a bar, not a letter."""
    image = np.rint(imread(file)[..., :3] * 255).astype(int)
    same = (image == colour).all(axis=2)
    thick = same[:-6] & same[3:-3] & same[6:]  # letters and arrows are thinner
    return int(thick.any(axis=0).sum())


def texts(file: Path) -> list[str]:
    """What matplotlib notes beside the shapes of its letters."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return [line[5:-4] for line in lines if line.startswith("<!-- ")]


HOLES = (link("p", 1, 7, 10, 7, 14), link("p", 2, 7, 17, -1, -1), link("q", 1, 7, 10, 8, 3), link("q", 2, 8, 2, 8, -1))
WHOLE = (link("p", 1, 7, 10, 7, 16), link("p", 2, 7, 17, -1, -1), link("q", 1, 7, 10, 8, 1), link("q", 2, 8, 2, 8, -1))


def test_gaps_are_red_overlaps_dark_and_the_rest_blue(tmp_path: Path) -> None:
    legend_only, flawed = tmp_path / "whole.png", tmp_path / "flawed.png"
    draw_coverage(None, map_of(*WHOLE), runs=RUNS, file=legend_only)
    draw_coverage(None, map_of(*HOLES), runs=RUNS, file=flawed)
    per_run = 450 / len(RUNS)
    for colour in (GAP, OVERLAP):
        assert columns(flawed, colour) - columns(legend_only, colour) == pytest.approx(2 * per_run, abs=4)
    assert columns(legend_only, COVERED) >= 440


def test_the_words_beside_a_row_tell_what_the_colours_show(tmp_path: Path) -> None:
    file = tmp_path / "map.svg"
    draw_coverage(map_of(*HOLES), map_of(*WHOLE), runs=RUNS, file=file, title="data_prompt")
    said = texts(file)
    assert {"data_prompt", "before", "after", "p", "q", "exp 7", "exp 8", "to end of exp 8"} <= set(said)
    assert said.count("2 runs missing") == 1
    assert said.count("2 runs double") == 1


def test_one_missing_run_among_thousands_is_seen(tmp_path: Path) -> None:
    runs = [ExpRun(7, run) for run in range(5000)]
    holed = [link("p", 1, 7, 0, 7, 2499), link("p", 2, 7, 2501, -1, -1)]
    files = tmp_path / "whole.png", tmp_path / "holed.png"
    for file, links in zip(files, ([link("p", 1, 0, 0, -1, -1)], holed), strict=True):
        draw_coverage(None, map_of(*links, runs=runs, wanted=IoV(7, 0, 7, -1)), runs=runs, file=file)
    whole, gap = (columns(file, GAP) for file in files)
    assert gap > whole


def test_a_large_map_stays_as_wide_as_a_screen_and_shows_each_name(tmp_path: Path) -> None:
    runs = [ExpRun(exp, run) for exp, count in ((26, 230), (27, 15), (28, 3), (30, 352)) for run in range(count)]
    links = [link(f"Payload{i}", 1, 26, i, -1, -1) for i in range(60)]
    png, svg = tmp_path / "large.png", tmp_path / "large.svg"
    for file in (png, svg):
        draw_coverage(None, map_of(*links, runs=runs, wanted=IoV(26, 0, 30, -1)), runs=runs, file=file)
    height, width, _ = imread(png).shape
    assert width < 2200
    assert 60 * 15 < height < 60 * 22
    said = texts(svg)
    assert {f"Payload{i}" for i in range(60)} <= set(said)
    assert {"exp 26", "27 to 28", "exp 30", "1 run missing", "59 runs missing"} <= set(said)


def test_without_known_runs_the_places_where_coverage_changes_stand_for_them(tmp_path: Path) -> None:
    file = tmp_path / "map.svg"
    draw_coverage(None, coverage(HOLES, WANTED), runs=[], file=file)
    assert {"run from which coverage changes", "1 range missing"} <= set(texts(file))


def test_names_without_anything_and_tags_without_names_are_drawn_too(tmp_path: Path) -> None:
    file = tmp_path / "map.svg"
    draw_coverage(None, coverage([], WANTED, names=["p"], runs=RUNS), runs=RUNS, file=file)
    assert {"nothing", "20 runs missing"} <= set(texts(file))
    draw_coverage((), (), runs=RUNS, file=file)
    assert "no payloads" in texts(file)


def test_one_long_and_one_short_experiment_are_named_each(tmp_path: Path) -> None:
    runs = [ExpRun(7, run) for run in range(300)] + [ExpRun(9, 4)]
    file = tmp_path / "map.svg"
    draw_coverage(None, map_of(*WHOLE, runs=runs), runs=runs, file=file)
    assert {"exp 7", "9"} <= set(texts(file))


def test_a_picture_of_another_kind_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"a \.png or a \.svg file, not map\.pdf"):
        draw_coverage(None, map_of(*WHOLE), runs=RUNS, file=tmp_path / "map.pdf")
    assert list(tmp_path.iterdir()) == []


def test_drawing_leaves_the_state_of_pyplot_alone() -> None:
    code = "import sys; import resources.conditions.coverage_picture; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
