"""Validation scripts of a release, run through ``b2val-prompt-run``."""

import dataclasses
import json
from pathlib import Path

import pytest
from basf2_workbench import Basf2Workbench, process_ids
from caf_workbench import Notebook

from b2cal_core.errors import BackendError, ConfigurationError, DataError
from b2cal_core.ports import ValidationRequest
from b2cal_core.ranges import IoV
from b2cal_core.verdicts import Verdict
from resources.caf.basf2_validation import Basf2Validation

HEAD = """
import json
import os
from pathlib import Path
from b2cal_core.settings import ValidationSettings
settings = ValidationSettings(name="Synthetic", expert_config={"limit": 1.0}, download_files=["Mean_stdout"])
def run_validation(job_path, input_data_path, requested_iov, expert_config, **kwargs):
    with open("calls", "a") as calls:
        calls.write("x")
"""
PLOTS = """
    assert (Path(job_path) / "caf_outputdb_results" / "first" / "database.txt").is_file()
    assert Path(input_data_path).name == "input_data.json"
    assert requested_iov == [7, 1, 7, 9]
    assert Path("download_files/Mean_stdout").is_file()
    Path("mean.pdf").write_text(str(expert_config["limit"]))
"""
FIGURES = """
    figure = {"name": "bias", "value": 0.5, "unit": "ns", "threshold": {"high_fail": expert_config["limit"]}}
    Path("figures.json").write_text(json.dumps([figure]))
"""


@pytest.fixture
def done(basf2: Basf2Workbench) -> Path:
    request = basf2.request(basf2.files([(7, 1, 10)]))
    assert basf2.basf2().run(request, Notebook()).ok
    return request.directory


def asked(basf2: Basf2Workbench, job_path: Path, body: str, **config: object) -> ValidationRequest:
    script = basf2.validations / "val_synthetic.py"
    script.write_text(HEAD + body)
    return ValidationRequest(basf2.place / "validation", script, job_path, IoV(7, 1, 7, 9), config, None)


def test_plots_lie_in_the_directory_and_there_are_no_figures(basf2: Basf2Workbench, done: Path) -> None:
    request = asked(basf2, done, PLOTS, limit=2.0)
    assert Basf2Validation(basf2.environment()).run(request) == []
    assert (request.directory / "mean.pdf").read_text() == "2.0"
    config = json.loads((request.directory / "validation_config.json").read_text())
    assert config == {
        "validation_script": "val_synthetic.py",
        "job_path": str(done),
        "input_data_path": str(done / "input_data.json"),
        "download_files": ["Mean_stdout"],
        "requested_iov": [7, 1, 7, 9],
        "expert_config": {"limit": 2.0},
    }


def test_figures_that_the_script_leaves_are_taken_and_judged_once(basf2: Basf2Workbench, done: Path) -> None:
    request = asked(basf2, done, FIGURES, limit=0.4)
    (figure,) = Basf2Validation(basf2.environment()).run(request)
    assert (figure.name, figure.value, figure.unit, figure.verdict) == ("bias", 0.5, "ns", Verdict.fail)
    assert Basf2Validation(basf2.environment()).run(request) == [figure]
    assert (request.directory / "calls").read_text() == "x"


def test_another_configuration_script_or_payload_is_judged_anew(basf2: Basf2Workbench, done: Path) -> None:
    validation = Basf2Validation(basf2.environment())
    request = asked(basf2, done, FIGURES)
    assert validation.run(request)[0].verdict is Verdict.passed
    assert validation.run(dataclasses.replace(request, expert_config={"limit": 0.1}))[0].verdict is Verdict.fail
    assert validation.run(asked(basf2, done, PLOTS)) == []
    before = validation._identity(request)
    text = done / "caf_outputdb_results" / "first" / "database.txt"
    text.write_text(text.read_text().replace("7,1,7,1", "7,1,7,2"))
    assert validation._identity(request) != before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    raise KeyError('no such histogram')\n", "KeyError: 'no such histogram'"),
        ("    Path('figures.json').write_text('[3]')\n", "no list of figures"),
        ("    Path('figures.json').write_text('{')\n", "no list of figures"),
        ("    Path('figures.json').write_text('[{\"value\": 1.0}]')\n", "no list of figures"),
        ("    one = {'name': 'a', 'value': 1}\n    Path('figures.json').write_text(json.dumps([one, one]))\n", "apart"),
    ],
)
def test_a_broken_validation_is_an_error_of_its_script(
    basf2: Basf2Workbench, done: Path, body: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Basf2Validation(basf2.environment()).run(asked(basf2, done, body))
    assert "val_synthetic.py" in str(caught.value)


def test_a_killed_validation_is_worth_another_try(basf2: Basf2Workbench, done: Path) -> None:
    request = asked(basf2, done, "    os.kill(os.getpid(), 9)\n")
    with pytest.raises(BackendError, match="was killed by signal 9") as caught:
        Basf2Validation(basf2.environment()).run(request)
    assert caught.value.transient
    assert process_ids(request.directory) == []


def test_there_must_be_payloads_and_a_script(basf2: Basf2Workbench, done: Path) -> None:
    validation = Basf2Validation(basf2.environment())
    with pytest.raises(DataError, match="no exported payloads"):
        validation.run(asked(basf2, basf2.place, PLOTS))
    unknown = dataclasses.replace(asked(basf2, done, PLOTS), script=Path("val_none.py"))
    with pytest.raises(ConfigurationError, match=r"val_none\.py cannot be used"):
        validation.run(unknown)
