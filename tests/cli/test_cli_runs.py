from pathlib import Path

import numpy as np
import pytest
import uproot
from cli_answers import CommandLine

from resources.home import Home


@pytest.fixture
def simulated(b2cal: CommandLine) -> Path:
    """The feed of three small simulated runs, not registered yet."""
    answer = b2cal.ok("runs", "simulate", "--count", 3, "--scale", 0.02, "--json")
    return Path(answer.json["feed"])


def test_simulated_runs_are_registered_by_their_feed(b2cal: CommandLine, simulated: Path) -> None:
    answer = b2cal.ok("runs", "ingest", simulated, "--json")
    assert answer.json == {"runs": 3, "changed": 3, "left_out": {}}
    assert b2cal.ok("runs", "ingest", simulated, "--checksums", "--json").json["changed"] == 0
    assert [entry["run"] for entry in b2cal.ok("runs", "list", "--json").json] == [1, 2, 3]


def test_simulation_makes_nothing_twice(b2cal: CommandLine, simulated: Path, home: Home) -> None:
    def times() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in home.data.rglob("*.root")}

    before = times()
    answer = b2cal.ok("runs", "simulate", "--count", 3, "--scale", 0.02, "--register")
    assert times() == before
    assert "3 of 3" in answer.err
    assert "3 of them new or changed" in answer.out


def test_a_simulated_file_that_is_gone_is_made_again_byte_by_byte(
    b2cal: CommandLine, simulated: Path, home: Home
) -> None:
    file = next(iter(home.data.rglob("*.root")))
    content = file.read_bytes()
    file.unlink()
    b2cal.ok("runs", "simulate", "--count", 3, "--scale", 0.02)
    assert file.read_bytes() == content


def test_data_of_two_detectors_are_not_mixed(b2cal: CommandLine, simulated: Path) -> None:
    answer = b2cal("runs", "simulate", "--count", 3, "--scale", 0.02, "--seed", 2)
    assert answer.code == 1
    assert "simulated with seed 1, scale 0.02, asked for is seed 2, scale 0.02; use another home" in answer.err


@pytest.mark.parametrize("spoil", [lambda f: f.unlink(), lambda f: f.write_bytes(f.read_bytes()[:-1])])
def test_a_run_with_a_missing_or_truncated_file_is_left_out_by_name(
    b2cal: CommandLine, simulated: Path, home: Home, spoil: object
) -> None:
    file = next(iter((home.data / "e0012" / "r00002").rglob("*.root")))
    spoil(file)
    answer = b2cal("runs", "ingest", simulated)
    assert answer.code == 1
    assert "exp 12 run 2" in answer.err
    assert str(file) in answer.err
    assert [entry["run"] for entry in b2cal.ok("runs", "list", "--json").json] == [1, 3]


def test_a_file_with_another_content_is_found_when_checksums_are_asked_for(
    b2cal: CommandLine, simulated: Path, home: Home
) -> None:
    file = next(iter((home.data / "e0012" / "r00002").rglob("*.root")))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    assert b2cal("runs", "ingest", simulated).code == 0
    answer = b2cal("runs", "ingest", simulated, "--checksums")
    assert answer.code == 1
    assert "does not have the checksum" in answer.err


def test_runs_are_listed_for_people_and_shown_one_by_one(b2cal: CommandLine, simulated: Path) -> None:
    b2cal.ok("runs", "ingest", simulated)
    listed = b2cal.ok("runs", "list", "--exp", 12, "--first", 2, "--last", 2).out
    assert "2024-02-20" in listed
    assert len(listed.strip().splitlines()) == 3
    shown = b2cal.ok("runs", "show", 12, 2)
    assert "hadron_calib" in shown.out
    assert b2cal.ok("runs", "show", 12, 2, "--json").json["run"] == 2
    assert b2cal("runs", "show", 12, 99).code == 2


def test_a_range_of_runs_needs_an_experiment_and_an_order(b2cal: CommandLine, simulated: Path) -> None:
    assert b2cal("runs", "list", "--first", 2).code == 2
    assert b2cal("runs", "list", "--exp", 12, "--first", 5, "--last", 2).code == 2


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    with uproot.recreate(tmp_path / "f.root") as root:
        root["tree"] = {"event": np.arange(7)}
    return tmp_path / "f.root"


TIMES = ("--started", "2026-01-01T00:00:00", "--ended", "2026-01-01T01:00:00")


def test_a_run_is_registered_by_hand_and_changed_later(b2cal: CommandLine, data_file: Path) -> None:
    b2cal.ok("runs", "register", 20, 5, *TIMES, "--quality", "Good", "--file", f"hadron_calib:raw:{data_file}")
    shown = b2cal.ok("runs", "show", 20, 5, "--json").json
    assert shown["files"][0]["events"] == 7
    assert shown["started"] == "2026-01-01T00:00:00.000000+00:00"
    answer = b2cal.ok("runs", "register", 20, 5, "--quality", "Bad For Alignment", "--json")
    assert answer.json["changed"]
    changed = b2cal.ok("runs", "show", 20, 5, "--json").json
    assert changed == {**shown, "quality": ["Bad For Alignment"]}
    assert "nothing changed" in b2cal.ok("runs", "register", 20, 5).out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give --started and --ended"),
        ((*TIMES, "--quality", "Nice"), "'Nice' is no data quality tag"),
        ((*TIMES, "--type", "holiday"), "'holiday' is no run type"),
        ((*TIMES, "--file", "hadron_calib:raw"), "TAG:FORMAT:PATH"),
        ((*TIMES, "--file", "hadron_calib:dst:/x.root"), "unknown data format 'dst'"),
        ((*TIMES, "--file", "strange:raw:/x.root"), "'strange' is no data tag"),
        ((*TIMES, "--file", "hadron_calib:raw:/absent/x.root"), "cannot be read"),
        (("--started", "2026-01-02", "--ended", "2026-01-01"), "cannot end"),
    ],
)
def test_a_run_that_cannot_be_is_refused(b2cal: CommandLine, options: tuple[str, ...], says: str) -> None:
    answer = b2cal("runs", "register", 20, 5, *options)
    assert answer.code == 2
    assert says in answer.err


def test_a_file_that_is_no_root_file_is_refused(b2cal: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "x.root").write_text("not ROOT")
    answer = b2cal("runs", "register", 20, 5, *TIMES, "--file", f"hadron_calib:raw:{tmp_path / 'x.root'}")
    assert answer.code == 2
    assert "this is no ROOT file" in answer.err


def test_a_registry_that_is_down_is_one_sentence(b2cal: CommandLine, home: Home) -> None:
    home.create().registry.write_bytes(b"nonsense" * 1000)
    answer = b2cal("runs", "list")
    assert answer.code == 1
    assert "the run registry" in answer.err
    assert "move it away" in answer.err
    assert len(answer.err.splitlines()) == 1
