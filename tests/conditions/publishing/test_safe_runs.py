"""Who knows which data were processed."""

import json
from datetime import UTC, datetime

import pytest
from published_tags import RELEASE

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from resources.conditions.safe_runs import NotedProcessed, RegistryProcessed, note_processed
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry


def test_the_last_run_that_was_noted_counts_for_its_tag_only(conditions, make) -> None:
    make("a", [])
    make("b", [])
    source = NotedProcessed(conditions)
    assert source.last_processed("a") is None
    for run in (ExpRun(2, 5), ExpRun(1, 90)):
        note_processed(conditions, "a", run, release=RELEASE)
    assert source.last_processed("a")[0] == ExpRun(2, 5)
    assert source.last_processed("b") is None
    conditions.note("a", action="processed", release=RELEASE, detail=json.dumps({"exp": 1}))
    with pytest.raises(ConfigurationError, match="says that data were processed, but not which"):
        source.last_processed("a")


def test_the_last_run_with_files_that_are_made_after_publishing_counts(tmp_path) -> None:
    registry = EmbeddedRunRegistry(Home(tmp_path).registry_url)
    source = RegistryProcessed(registry, targets="data_prompt*")
    assert source.last_processed("data_prompt_rel09") is None
    registry.add([a_run(1, 5, "raw", "mdst"), a_run(1, 4, "udst"), a_run(1, 9, "raw", "cdst")])
    assert source.last_processed("data_prompt_rel09") == (ExpRun(1, 5), "the run registry has its mdst files")
    assert source.last_processed("data_reprocessing") is None
    registry.add([a_run(1, run, "udst") for run in range(1000, 2100)])
    assert source.last_processed("data_prompt_rel09") == (ExpRun(1, 2099), "the run registry has its udst files")
    assert source.last_processed("data_prompt_rel09") == (ExpRun(1, 2099), "the run registry has its udst files")


def a_run(exp: int, run: int, *formats: str) -> RunRecord:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    files = tuple(DataFile(f"/data/{exp}/{run}/{kind}", "hadron_calib", kind, 10, 10, "ab" * 32) for kind in formats)
    return RunRecord(ExpRun(exp, run), "physics", "4S", "On", frozenset({"Good"}), at, at, files)
