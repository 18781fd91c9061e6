from pathlib import Path

import pytest
from caf_workbench import Workbench

from b2cal_caf.atomic_files import read_json
from b2cal_caf.validation import run_validation_script
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ports import ValidationRequest
from b2cal_core.ranges import IoV
from b2cal_core.verdicts import Verdict

HEAD = """
import os
import signal
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
settings = ValidationSettings(name="Synthetic", expert_config={"limit": 1.0}, download_files=["Mean_stdout"])
def run_validation(job_path, input_data_path, requested_iov, expert_config, *, output_dir, previous, **kwargs):
"""
GOOD = """
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    figure.savefig(output_dir / "mean.png")
    with open("calls", "a") as calls:
        calls.write("x")
    assert input_data_path.name == "input_data.json"
    assert (output_dir / "download_files" / "Mean_stdout").exists()
    before = len(previous.entries()) if previous else 0
    return [Figure("bias", 0.5, Threshold(high_fail=expert_config["limit"]), "ns", "the bias"),
            Figure("payloads before", before, Threshold())]
"""


@pytest.fixture
def done(bench: Workbench) -> Path:
    request = bench.request(bench.files([(7, 1, 10)]))
    assert bench.run(request).ok
    return request.directory


def asked(bench: Workbench, job_path: Path, body: str = GOOD, **config: object) -> ValidationRequest:
    script = bench.place / "val_synthetic.py"
    script.write_text(HEAD + body)
    return ValidationRequest(bench.place / "validation", script, job_path, IoV(7, 1, 7, 1), config, None)


def test_figures_are_returned_and_kept_with_plots_and_verdicts(bench: Workbench, done: Path) -> None:
    request = asked(bench, done)
    figures = run_validation_script(request)
    assert [(figure.name, figure.value, figure.unit) for figure in figures] == [
        ("bias", 0.5, "ns"),
        ("payloads before", 0, ""),
    ]
    assert figures[0].verdict is Verdict.passed
    assert (request.directory / "mean.png").read_bytes().startswith(b"\x89PNG")
    kept = read_json(request.directory / "figures.json")
    assert [figure["verdict"] for figure in kept["figures"]] == ["pass", "pass"]


def test_the_same_payloads_are_judged_once(bench: Workbench, done: Path) -> None:
    request = asked(bench, done)
    assert run_validation_script(request) == run_validation_script(request)
    assert (request.directory / "calls").read_text() == "x"


def test_another_configuration_or_script_is_judged_anew(bench: Workbench, done: Path) -> None:
    run_validation_script(asked(bench, done))
    strict = run_validation_script(asked(bench, done, limit=0.1))
    assert strict[0].verdict is Verdict.fail
    (changed,) = run_validation_script(asked(bench, done, "    return [Figure('other', 1.0, Threshold())]\n"))
    assert changed.name == "other"
    assert not (bench.place / "validation" / "mean.png").exists()


def test_the_payloads_before_are_given_as_a_database(bench: Workbench, done: Path) -> None:
    before = bench.constants("before", {"Mean": [(IoV(6, 0, 6, -1), 1.0), (IoV(7, 0, 7, 0), 2.0)]})
    request = asked(bench, done)
    figures = run_validation_script(
        ValidationRequest(request.directory, request.script, done, request.requested_iov, {}, before)
    )
    assert figures[1].value == 2


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    raise KeyError('no such histogram')\n", "KeyError: 'no such histogram'"),
        ("    os.kill(os.getpid(), signal.SIGKILL)\n", "killed by signal 9"),
        ("    return [3]\n", "must return figures"),
        ("    return [Figure('a', 1.0, Threshold()), Figure('a', 2.0, Threshold())]\n", "names of their own"),
    ],
)
def test_a_broken_validation_is_an_error_with_its_log(bench: Workbench, done: Path, body: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        run_validation_script(asked(bench, done, body))
    assert "validation_stdout" in str(caught.value)


def test_there_must_be_payloads(bench: Workbench) -> None:
    with pytest.raises(DataError, match="no exported payloads"):
        run_validation_script(asked(bench, bench.place))
