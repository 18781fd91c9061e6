import json
from pathlib import Path
from typing import Any

import pytest
from caf_workbench import SCRIPT, Notebook, Workbench, values

from b2cal_caf.prompt_run import PromptOptions, dry_run, prompt_request, run_prompt
from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun, IoV

CONFIG = {"caf_script": SCRIPT.name, "database_chain": [], "requested_iov": [7, 1, 7, 9]}


def files(bench: Workbench, config: Any = CONFIG, inputs: Any = None) -> tuple[Path, Path]:
    """The two JSON files, in the form of the documentation."""
    if inputs is None:
        for run in (1, 2):
            bench.file(f"data/e0007/r{run:05d}/beam/raw/a.root", 10 * run)
        inputs = {"beam": [[f"data/e0007/r{run:05d}/beam/raw", [7, run]] for run in (1, 2)]}
    paths = bench.place / "caf_config.json", bench.place / "input_data.json"
    for path, content in zip(paths, (config, inputs), strict=True):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


def test_the_two_files_of_the_documentation_are_run(bench: Workbench) -> None:
    request = prompt_request(*files(bench), workdir=bench.place / "work", scripts=SCRIPT.parent)
    assert request.requested_iov == IoV(7, 1, 7, 9)
    assert [run for _, run in request.input_data["beam"]] == [ExpRun(7, 1), ExpRun(7, 2)]
    result = run_prompt(request, bench.caf(), Notebook())
    assert values(result.databases["first"], "Mean", "events") == {(7, 1, 7, 2): 30.0}
    assert result.databases["first"] == bench.place / "work" / "caf_outputdb_results" / "first"


def test_the_files_written_into_the_directory_ask_for_the_same_again(bench: Workbench) -> None:
    request = prompt_request(*files(bench), workdir=bench.place / "work", scripts=SCRIPT.parent)
    run_prompt(request, bench.caf(), Notebook())
    again = prompt_request(
        bench.place / "work/caf_config.json", bench.place / "work/input_data.json", workdir=bench.place / "work"
    )
    assert run_prompt(again, bench.caf(), Notebook()).resumed


def test_memory_and_splitting_can_be_overridden(bench: Workbench) -> None:
    config = CONFIG | {"backend_args": {"request_memory": "4 GB", "universe": "vanilla"}}
    options = PromptOptions(max_jobs=1)
    request = prompt_request(*files(bench, config), workdir=bench.place / "w", scripts=SCRIPT.parent, options=options)
    loaded = dry_run(request)
    collection = loaded.calibrations[0].collections["default"]
    assert (collection.memory, collection.max_jobs, collection.max_files_per_job) == (4000, 1, None)
    assert loaded.remarks == ("backend_args has keys that are not used here: universe",)
    assert not (bench.place / "w").exists()


def test_the_working_directory_can_be_overwritten(bench: Workbench) -> None:
    request = prompt_request(*files(bench), workdir=bench.place / "work", scripts=SCRIPT.parent)
    run_prompt(request, bench.caf(), Notebook())
    options = PromptOptions(overwrite_working_dir=True)
    assert not run_prompt(request, bench.caf(), Notebook(), options=options).resumed


def test_a_chain_may_name_storages_beside_the_configuration(bench: Workbench) -> None:
    bench.constants("constants", {"Start": [(IoV(0, 0, -1, -1), 1.0)]})
    config = CONFIG | {"database_chain": ["constants", "a_tag"]}
    request = prompt_request(*files(bench, config), workdir=bench.place / "work", scripts=SCRIPT.parent)
    assert request.database_chain == (str(bench.place / "constants"), "a_tag")


@pytest.mark.parametrize(
    ("config", "inputs", "words"),
    [
        ("{", None, "no valid JSON"),
        ([], None, "must hold a JSON object"),
        ({"caf_script": "x"}, None, "lacks database_chain, requested_iov"),
        (CONFIG | {"extra": 1}, None, "unknown keys extra"),
        (CONFIG | {"caf_script": "caf_none.py"}, None, "found neither as"),
        (CONFIG | {"caf_script": 3}, None, "must be a file name"),
        (CONFIG | {"database_chain": "tag"}, None, "must be a list of names"),
        (CONFIG | {"requested_iov": [7, 3, 7, 1]}, None, "must not start after its end"),
        (CONFIG | {"requested_iov": [7]}, None, r"must be \[exp, run, exp, run\]"),
        (CONFIG | {"expert_config": []}, None, "must be an object"),
        (CONFIG, {"beam": {}}, "must be a list"),
        (CONFIG, {"beam": [["dir"]]}, r"must be \[directory, \[exp, run\]\]"),
        (CONFIG, {"beam": [["dir", [7, -1]]]}, "count from 0"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(bench: Workbench, config: Any, inputs: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        prompt_request(*files(bench, config, inputs), workdir=bench.place / "work", scripts=SCRIPT.parent)


def test_missing_files_and_contradicting_options_are_refused(bench: Workbench) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        prompt_request(bench.place / "none.json", bench.place / "none.json", workdir=bench.place)
    options = PromptOptions(max_files_per_job=1, max_jobs=1)
    with pytest.raises(ConfigurationError, match="not by both"):
        prompt_request(*files(bench), workdir=bench.place, scripts=SCRIPT.parent, options=options)


@pytest.mark.parametrize(("memory", "words"), [("4 PB", "request_memory"), ("lots", "request_memory")])
def test_memory_that_is_no_number_is_refused(bench: Workbench, memory: str, words: str) -> None:
    config = CONFIG | {"backend_args": {"request_memory": memory}}
    request = prompt_request(*files(bench, config), workdir=bench.place / "w", scripts=SCRIPT.parent)
    with pytest.raises(ConfigurationError, match=words):
        dry_run(request)
