"""The named fakes keep to the documented interface of basf2's tools, where the adapter relies on it."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from basf2_workbench import FAKES, Basf2Workbench

sys.path.append(str(FAKES))
from fake_release import parser_of

RUNS = [(7, 1, 10), (7, 2, 20)]


class Shell:
    """A working directory in which the fakes are called as a person would."""

    def __init__(self, basf2: Basf2Workbench) -> None:
        self.directory = basf2.place / "shell"
        self.directory.mkdir()
        self._environment = dict(os.environ) | {
            "BELLE2_LOCAL_DIR": str(basf2.release),
            "PATH": f"{FAKES}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        inputs = {"beam": []}
        for exp, run, events in RUNS:
            file = basf2.file(f"data/r{run}/deeper/a.root", events, factor=run)
            inputs["beam"].append([str(file.parents[1]), [exp, run]])
        self.write("input_data.json", inputs)
        self.configure()

    def write(self, name: str, content: Any) -> None:
        (self.directory / name).write_text(json.dumps(content))

    def configure(self, **expert_config: Any) -> None:
        config = {"caf_script": "caf_synthetic.py", "database_chain": ["base"], "requested_iov": [7, 1, 7, 9]}
        self.write("caf_config.json", config | {"expert_config": expert_config})

    def run(self, *options: str) -> "subprocess.CompletedProcess[str]":
        command = ["b2caf-prompt-run", "Local", "caf_config.json", "input_data.json", "--heartbeat", "0", *options]
        return self.call(command)

    def call(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(FAKES / command[0]), *command[1:]],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def rows(self) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.directory / "calibration_results" / "caf_state.db")) as connection:
            return connection.execute("SELECT name, state, checkpoint, iteration FROM calibrations").fetchall()


@pytest.fixture
def shell(basf2: Basf2Workbench) -> Shell:
    return Shell(basf2)


def test_the_options_have_the_documented_defaults() -> None:
    parser = parser_of("", ("caf_config", "input_data"), exports=True)
    local = vars(parser.parse_args(["Local", "c", "i"]))
    assert (local["max_processes"], local["heartbeat"], local["log_level"]) == (4, 60, "INFO")
    assert not any(local[name] for name in ("dry_run", "overwrite_db", "overwrite_workdir", "files_per_subjob"))
    condor = vars(parser.parse_args(["HTCondor", "c", "i", "--universe", "vanilla"]))
    assert (condor["global_job_limit"], condor["submission_check_heartbeat"], condor["getenv"]) == (1000, 30, None)
    for refused in (
        ["Slurm", "c", "i"],
        ["Local", "c", "i", "--queue", "s"],
        ["LSF", "c", "i", "--max-processes", "2"],
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(refused)
    with pytest.raises(SystemExit):
        parser.parse_args(["Local", "c", "i", "--max-subjobs", "1", "--max-files-per-subjob", "1"])


def test_a_run_leaves_the_documented_layout_and_takes_files_from_below_directories(shell: Shell) -> None:
    ended = shell.run("--max-files-per-subjob", "1")
    assert ended.returncode == 0, ended.stderr
    results = shell.directory / "calibration_results"
    assert shell.rows() == [("first", "completed", "completed", 0)]
    described = json.loads((results / "first/0/collector_input/default/collector_job.json").read_text())
    assert described["name"] == "first_default_Iteration_0"
    assert [subjob["id"] for subjob in described["subjobs"]] == [0, 1]
    for number in "01":
        subjob = results / "first/0/collector_output/default" / number
        assert (subjob / "__BACKEND_CMD_EXIT_STATUS__").read_text() == "0\n"
        files = {"submit.sh", "stdout", "stderr", "__BACKEND_INPUT_FILES__.json", "CollectorOutput.root"}
        assert files <= {path.name for path in subjob.iterdir()}
    written = {path.name for path in (results / "first/0/algorithm_output").iterdir()}
    assert {"Mean_stdout", "Mean_iov_gaps.json", "outputdb"} <= written
    exported = (shell.directory / "caf_outputdb_results/first/database.txt").read_text()
    assert exported == (results / "first/outputdb/database.txt").read_text()


def test_an_export_directory_that_is_there_is_an_error_without_the_option(shell: Shell) -> None:
    assert shell.run().returncode == 0
    again = shell.run()
    assert again.returncode == 1
    assert "Will not overwrite output db" in again.stdout
    assert shell.run("--overwrite-output-db").returncode == 0


def test_a_failed_calibration_raises_and_nothing_is_exported(shell: Shell) -> None:
    shell.configure(calibrations=[{"name": "bad", "does": "raise"}, {"name": "below", "depends_on": ["bad"]}])
    ended = shell.run()
    assert ended.returncode == 1
    assert "RuntimeError: bad failed!" in ended.stderr
    assert shell.rows() == [("bad", "failed", "collector_completed", 0), ("below", "init", "init", 0)]
    assert not (shell.directory / "caf_outputdb_results").exists()


def test_a_restart_goes_on_from_the_checkpoint_unless_the_working_directory_is_overwritten(
    shell: Shell, basf2: Basf2Workbench
) -> None:
    shell.configure(calibrations=[{"name": "bad", "does": "raise"}])
    shell.run()
    shell.run()
    assert len(basf2.done()) == 2
    shell.run("--overwrite-working-dir")
    assert len(basf2.done()) == 4


def test_a_dry_run_submits_nothing(shell: Shell) -> None:
    assert shell.run("--dry-run").returncode == 0
    assert not (shell.directory / "calibration_results").exists()


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("input_data.json", {"other": []}, 1, "does not contain all of the required input names"),
        ("input_data.json", {}, 1, "completely empty"),
        ("caf_config.json", {"caf_script": "caf_none.py", "database_chain": []}, 1, "Couldn't import"),
    ],
)
def test_what_cannot_be_run_is_an_error(shell: Shell, name: str, content: Any, code: int, words: str) -> None:
    shell.write(name, content)
    ended = shell.run()
    assert ended.returncode == code
    assert words in ended.stdout


def test_a_missing_file_is_an_error(shell: Shell) -> None:
    (shell.directory / "caf_config.json").unlink()
    ended = shell.run()
    assert ended.returncode == 2
    assert "The file caf_config.json does not exist" in ended.stdout


def test_scripts_are_listed_and_shown(shell: Shell) -> None:
    assert json.loads(shell.call(["b2caf-prompt-show", "--json"]).stdout) == ["caf_synthetic.py"]
    assert shell.call(["b2caf-prompt-show"]).stdout == "caf_synthetic.py\n"
    shown = shell.call(["b2caf-prompt-show", "--script-name", "caf_synthetic.py", "--json"])
    assert json.loads(shown.stdout)["name"] == "Synthetic"
    assert shell.call(["b2caf-prompt-show", "--script-name", "caf_none.py", "--json"]).returncode == 1
