import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_answers import CommandLine

from b2cal_cli.demo_setup import SCRIPTS
from b2cal_cli.simulation import Simulation, simulate_runs
from b2cal_detector.nominal import write_nominal

WriteRequest = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated runs and the design constants as a testing payload storage."""
    directory = tmp_path_factory.mktemp("caf")
    simulate_runs(Simulation(seed=1, exp=12, first=1, count=3, scale=0.5), directory / "data")
    write_nominal(directory / "nominal")
    return directory


@pytest.fixture
def request_files(data: Path, tmp_path: Path) -> WriteRequest:
    def write(**changes: object) -> tuple[Path, Path]:
        config = {
            "caf_script": str(SCRIPTS / "caf_svd_time.py"),
            "database_chain": [str(data / "nominal")],
            "requested_iov": [12, 1, 12, 3],
            "expert_config": {"min_hits": 1},
        }
        tag = "hadron_calib"
        inputs = {tag: [[str(data / f"data/e0012/r{run:05d}/{tag}/raw"), [12, run]] for run in (1, 2, 3)]}
        (tmp_path / "caf_config.json").write_text(json.dumps(config | changes))
        (tmp_path / "input_data.json").write_text(json.dumps(inputs))
        return tmp_path / "caf_config.json", tmp_path / "input_data.json"

    return write


def test_a_script_is_run_and_the_same_command_again_repeats_nothing(
    b2cal: CommandLine, request_files: WriteRequest, tmp_path: Path
) -> None:
    command = ("caf", "run", *request_files(), "--workdir", tmp_path / "work", "--max-processes", 1)
    first = b2cal.ok(*command, "--json").json
    assert first["states"] == {"svd_time": "completed"}
    assert not first["resumed"]
    assert (tmp_path / "work" / "caf_outputdb_results" / "svd_time" / "database.txt").is_file()
    assert b2cal.ok(*command, "--json").json["resumed"]
    assert "everything was done before, nothing was repeated" in b2cal.ok(*command).out
    (row,) = b2cal.ok("caf", "status", tmp_path / "work", "--json").json
    assert (row["name"], row["state"], row["iteration"]) == ("svd_time", "completed", 0)
    assert "completed" in b2cal.ok("caf", "status", tmp_path / "work").out


def test_working_anew_is_asked_for(b2cal: CommandLine, request_files: WriteRequest, tmp_path: Path) -> None:
    command = ("caf", "run", *request_files(), "--workdir", tmp_path / "work", "--json")
    b2cal.ok(*command)
    again = b2cal.ok(*command, "--overwrite-working-dir").json
    assert not again["resumed"]
    assert again["cached"] > 0


def test_a_dry_run_checks_everything_and_runs_nothing(
    b2cal: CommandLine, request_files: WriteRequest, tmp_path: Path
) -> None:
    command = ("caf", "run", *request_files(), "--workdir", tmp_path / "work", "--dry-run")
    (calibration,) = b2cal.ok(*command, "--json").json["calibrations"]
    assert (calibration["calibration"], calibration["files"]) == ("svd_time", 6)
    assert "nothing was run" in b2cal.ok(*command).out
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"requested_iov": [12, 5, 12, 3]}, "requested_iov"),
        ({"caf_script": "caf_absent.py"}, "script caf_absent.py"),
        ({"colour": "red"}, "unknown keys colour"),
    ],
)
def test_a_request_that_cannot_be_is_wrong_usage(
    b2cal: CommandLine, request_files: WriteRequest, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    answer = b2cal("caf", "run", *request_files(**changes), "--workdir", tmp_path / "work")
    assert answer.code == 2
    assert says in answer.err


def test_sub_jobs_are_limited_in_one_way_only(b2cal: CommandLine, request_files: WriteRequest, tmp_path: Path) -> None:
    limits = ("--max-files-per-subjob", 1, "--max-subjobs", 1)
    assert b2cal("caf", "run", *request_files(), "--workdir", tmp_path / "work", *limits).code == 2
    done = b2cal.ok("caf", "run", *request_files(), "--workdir", tmp_path / "work", "--max-subjobs", 1, "--json").json
    assert done["jobs"] == 1


def test_a_failed_calibration_ends_with_1_and_its_reason(
    b2cal: CommandLine, request_files: WriteRequest, tmp_path: Path
) -> None:
    files = request_files(expert_config={"min_hits": 1_000_000})
    answer = b2cal("caf", "run", *files, "--workdir", tmp_path / "work", "--json")
    assert answer.code == 1
    assert answer.json["states"] == {"svd_time": "failed"}
    assert re.search("svd_time: algorithm SvdTimeAlgorithm .*see .*SvdTimeAlgorithm_stdout", answer.err), answer.err


def test_tags_need_a_home_with_a_conditions_database(
    b2cal: CommandLine, request_files: WriteRequest, tmp_path: Path
) -> None:
    answer = b2cal("caf", "run", *request_files(database_chain=["main"]), "--workdir", tmp_path / "work")
    assert answer.code == 2
    assert "there is no home directory" in answer.err


def test_the_status_of_what_was_never_started_is_told(b2cal: CommandLine, tmp_path: Path) -> None:
    answer = b2cal("caf", "status", tmp_path)
    assert answer.code == 1
    assert "holds no calibration_results/caf_state.db" in answer.err
