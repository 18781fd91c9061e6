"""The small parts of the CAF, each for itself."""

import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_caf.atomic_files import read_json, share_file, write_atomically, write_json
from b2cal_caf.calibration import Collection, Collector, DummyCollector
from b2cal_caf.checkpoints import CalibrationRow, CheckpointStore, caf_status
from b2cal_caf.collect_job import main
from b2cal_caf.collector_identity import code_hash, describe, revive
from b2cal_caf.conditions import ChainReader
from b2cal_caf.job_book import Exclusion, JobBook, JobRow, OrderKind, Stage
from b2cal_caf.job_failures import failing_lines
from b2cal_caf.machine import TRANSITIONS, State, Trigger, after
from b2cal_caf.scripts import load_script
from b2cal_caf.splitting import split, split_by_files, split_by_jobs
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.failure_policies import Trial
from b2cal_core.jobs import Cause
from b2cal_core.ranges import ExpRun, IoV


class TestSplitting:
    def test_eleven_files_in_four_jobs_are_three_three_three_two(self) -> None:
        assert [len(group) for group in split_by_jobs(range(11), 4)] == [3, 3, 3, 2]

    def test_files_per_job_are_consecutive(self) -> None:
        assert split_by_files(range(5), 2) == [(0, 1), (2, 3), (4,)]

    @given(files=st.integers(0, 300), most=st.integers(1, 50))
    def test_every_file_is_in_one_group_in_order_and_groups_differ_by_one_at_most(self, files: int, most: int) -> None:
        groups = split_by_jobs(range(files), most)
        assert [file for group in groups for file in group] == list(range(files))
        assert len(groups) == min(files, most)
        assert max(map(len, groups), default=0) - min(map(len, groups), default=0) <= 1

    def test_by_default_there_are_at_most_a_thousand(self) -> None:
        assert len(split(range(2500), max_files_per_job=None, max_jobs=None)) == 1000

    def test_nonsense_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="at least 1"):
            split([1], max_files_per_job=0, max_jobs=None)
        with pytest.raises(ConfigurationError, match="not by both"):
            Collection(DummyCollector(), {}, max_files_per_job=1, max_jobs=1)


class TestMachine:
    def test_every_state_but_the_last_ones_has_a_way_on(self) -> None:
        assert {state for _, state in TRANSITIONS} == {state for state in State if not state.is_terminal}

    def test_work_can_be_taken_up_from_three_states(self) -> None:
        assert {state for state in State if state.is_checkpoint} == {
            State.init,
            State.collector_completed,
            State.completed,
        }

    def test_a_trigger_out_of_place_is_refused(self) -> None:
        assert after(State.init, Trigger.submit_collector) is State.running_collector
        with pytest.raises(ValueError, match="state completed cannot iterate"):
            after(State.completed, Trigger.iterate)


def row(directory: str, **other: Any) -> JobRow:
    number = int(Path(directory).name)
    usual = {"stage": Stage.submitted, "native_id": "", "attempt": 0, "key": "k", "trial": Trial(2000)}
    return JobRow(Path(directory), "c", 0, "default", number, **{**usual, **other})


class TestCheckpoints:
    def test_rows_are_read_back_in_order_and_replaced(self, tmp_path: Path) -> None:
        store = CheckpointStore(tmp_path / "calibration_results" / "caf_state.db")
        store.write(CalibrationRow("b", State.init, State.init, 0))
        store.write(CalibrationRow("a", State.init, State.init, 0))
        store.write(CalibrationRow("b", State.failed, State.collector_completed, 2))
        expected = (
            CalibrationRow("b", State.failed, State.collector_completed, 2),
            CalibrationRow("a", State.init, State.init, 0),
        )
        assert store.rows() == caf_status(tmp_path) == caf_status(tmp_path / "calibration_results") == expected

    def test_jobs_are_remembered_and_forgotten_by_directory(self, tmp_path: Path) -> None:
        book = JobBook(tmp_path / "caf_state.db")
        first, second = row("/x/a/0", native_id="1"), row("/x/ab/0", stage=Stage.failed, cause=Cause.time)
        book.write([first, second])
        again = replace(first, attempt=2, trial=Trial(4000, 60, ("n1",)), troubles={Cause.memory: 1}, peak_memory=7)
        book.write([again])
        assert book.rows(Path("/x/a")) == [again]
        assert book.rows(stages=[Stage.failed]) == [second]
        assert book.counts() == {("c", 0, "default"): {Stage.submitted: 1, Stage.failed: 1}}
        book.forget(Path("/x/a"))
        assert book.rows() == [second]

    def test_orders_and_files_left_out_are_kept_until_somebody_looks(self, tmp_path: Path) -> None:
        book = JobBook(tmp_path / "caf_state.db")
        book.exclude([Exclusion("/f", "bad shift", "anna")])
        book.exclude([Exclusion("/f", "worse shift", "bert")])
        book.order(OrderKind.retry, ["c/0/default/3"], "anna")
        book.order(OrderKind.cancel, [], "bert")
        later = JobBook(tmp_path / "caf_state.db")
        assert [(one.reason, one.who) for one in later.exclusions().values()] == [("bad shift", "anna")]
        orders = later.orders()
        assert [(one.what, one.which, one.who) for one in orders] == [
            (OrderKind.retry, ("c/0/default/3",), "anna"),
            (OrderKind.cancel, (), "bert"),
        ]
        later.tick_off(orders[:1])
        assert book.orders() == orders[1:]

    def test_a_directory_without_checkpoints_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is it the working directory"):
            caf_status(tmp_path)


class TestJobFailures:
    @pytest.mark.parametrize(
        ("log", "lines"),
        [
            ("Traceback (most recent call last):\n  File x\n    y\nValueError: no\n", "ValueError: no"),
            (
                "a warning\nTraceback (most recent call last):\n  File x\na.b.Error: no\nwhile reading\n",
                "a.b.Error: no while reading",
            ),
            ("one\ntwo\nthree\nfour\n", "two three four"),
            ("", ""),
        ],
    )
    def test_the_exception_is_found_in_the_log(self, tmp_path: Path, log: str, lines: str) -> None:
        (tmp_path / "stderr").write_text(log)
        assert failing_lines(tmp_path / "stderr") == lines

    def test_no_log_says_nothing(self, tmp_path: Path) -> None:
        assert failing_lines(tmp_path / "none") == ""


FIRST = ExpRun(3, 4)


@dataclass(frozen=True)
class Fields(Collector):
    """With fields of many kinds."""

    number: float = 1.5
    names: tuple[str, ...] = ("a", "b")
    first: ExpRun = FIRST
    range: IoV | None = None
    table: Path = Path("/somewhere")

    def collect(self, file: Path, run: ExpRun, conditions: object) -> dict:
        return {}


class TestCollectorIdentity:
    def test_a_collector_of_a_module_is_revived_with_all_its_fields(self) -> None:
        collector = Fields(2.5, ("x",), ExpRun(1, 2), IoV(1, 0, 2, -1))
        assert revive(describe(collector)) == collector

    def test_a_collector_of_a_script_is_revived_from_the_script(self, tmp_path: Path) -> None:
        script = tmp_path / "caf_x.py"
        script.write_text(
            "from dataclasses import dataclass\nfrom b2cal_caf.calibration import Collector\n"
            "@dataclass(frozen=True, slots=True)\nclass C(Collector):\n    n: int = 1\n"
            "    def collect(self, file, run, conditions):\n        return {}\n"
        )
        collector = load_script(script).C(5)
        described = describe(collector)
        assert described["script"] == str(script)
        assert revive(described) == collector

    def test_the_hash_follows_the_modules_a_class_leans_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "leaned_on.py").write_text("FACTOR = 1\n\ndef f():\n    return FACTOR\n")
        script = tmp_path / "caf_x.py"
        script.write_text("from leaned_on import f\nimport numpy as np\nclass C:\n    pass\n")
        before = code_hash(load_script(script).C)
        assert code_hash(load_script(script).C) == before
        (tmp_path / "leaned_on.py").write_text("FACTOR = 2\n\ndef f():\n    return FACTOR\n")
        assert code_hash(load_script(script).C) != before
        sys.modules.pop("leaned_on")

    def test_a_class_inside_a_function_is_refused(self) -> None:
        @dataclass(frozen=True)
        class Local(Fields):
            pass

        with pytest.raises(ConfigurationError, match="top level"):
            describe(Local())


def test_a_file_is_shared_or_copied_and_replaces_what_was_there(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    share_file(tmp_path / "a", tmp_path / "sub" / "b")
    share_file(tmp_path / "a", tmp_path / "sub" / "b")
    assert (tmp_path / "sub" / "b").read_bytes() == b"one"
    with pytest.raises(FileNotFoundError):
        share_file(tmp_path / "none", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "sub"]


def test_json_that_is_none_reads_as_nothing(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1]})
    assert read_json(tmp_path / "a.json") == {"x": [1]}
    (tmp_path / "a.json").write_text("{")
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "none.json") is None


def test_a_payload_in_no_database_is_named_with_run_and_chain(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"CDCTimeZeros is not in the database chain for exp 7 run 3.*{tmp_path}"):
        ChainReader([tmp_path]).columns("CDCTimeZeros", ExpRun(7, 3))


def test_a_sub_job_directory_without_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no readable collector\.json"):
        main([str(tmp_path)])
    assert main([]) == 2


def test_a_module_is_hashed_like_a_class(tmp_path: Path) -> None:
    script = tmp_path / "caf_y.py"
    script.write_text("x = 1\n")
    module = load_script(script)
    assert isinstance(module, types.ModuleType)
    assert len(code_hash(module)) == 64
