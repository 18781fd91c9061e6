"""What a calibration script gets and leaves behind when nothing goes wrong."""

import json
from pathlib import Path

import pytest
from caf_workbench import Notebook, Workbench, contents, values

from b2cal_caf.checkpoints import caf_status
from b2cal_caf.local_database import LocalDatabase
from b2cal_core.ranges import ExpRun, IoV

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "caf_strategy_vectors.jsonl").read_text().splitlines()[::19]
]
RUNS = [(7, 1, 10), (7, 2, 20), (7, 5, 30), (7, 6, 40)]


def test_a_calibration_goes_through_its_states_and_exports_its_payloads(bench: Workbench) -> None:
    heard = Notebook()
    result = bench.run(bench.request(bench.files(RUNS)), heard)
    assert result.ok
    assert result.states == {"first": "completed"}
    assert heard.states("first") == [
        "running_collector",
        "collector_completed",
        "running_algorithms",
        "algorithms_completed",
        "completed",
    ]
    database = bench.place / "request" / "caf_outputdb_results" / "first"
    assert result.databases == {"first": database}
    assert values(database, "Mean", "events") == {(7, 1, 7, 6): 100.0}
    assert result.collected.events == {ExpRun(e, r): n for e, r, n in RUNS}
    assert (result.collected.files, result.collected.jobs, result.collected.cached) == (4, 4, 0)


def test_the_files_lie_where_those_of_basf2_do(bench: Workbench) -> None:
    bench.run(bench.request(bench.files(RUNS), max_jobs=2))
    calibration = bench.place / "request" / "calibration_results" / "first"
    expected = [
        "0/collector_input/default/collector_job.json",
        "0/collector_output/default/0/CollectorOutput.root",
        "0/collector_output/default/1/CollectorOutput.root",
        "0/collector_output/default/1/exit_code",
        "0/collector_output/default/1/stdout",
        "0/algorithm_output/Mean_stdout",
        "0/algorithm_output/Mean_iov_gaps.json",
        "0/algorithm_output/outputdb/database.txt",
        "outputdb/database.txt",
    ]
    assert [name for name in expected if not (calibration / name).is_file()] == []
    assert not (calibration / "0/collector_output/default/2").exists()
    assert [row.state for row in caf_status(bench.place / "request")] == ["completed"]
    config = json.loads((bench.place / "request" / "caf_config.json").read_text())
    assert config["requested_iov"] == [0, 0, 99, 9999]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["case"]["strategy"])
def test_committed_payloads_are_those_of_the_recorded_answers(bench: Workbench, vector: dict) -> None:
    case, expected = vector["case"], vector["expected"]
    inputs = bench.files([(exp, run, 1) for exp, run, _ in case["runs"]])
    iov = IoV(*case.get("requested_iov") or (0, 0, 99, 9999))
    calibrations = [{"name": "v", "strategy": case["strategy"], "max_iterations": 0}]
    result = bench.run(bench.request(inputs, iov=iov, vector=case, max_jobs=1, calibrations=calibrations))
    output = bench.place / "request/calibration_results/v/0/algorithm_output"
    report_file = output / "Vector_results.json"
    if not report_file.exists():  # no run of the case lies in the requested IoV
        assert expected["executions"] == []
        assert result.states == {"v": "failed"}
        return
    report = json.loads(report_file.read_text())
    found = [[e["runs"], e["iov"], e["result"]] for e in report["executions"]]
    assert found == expected["executions"]
    entries = LocalDatabase(output / "outputdb").entries()
    assert [list(entry.iov) for entry in entries] == expected["committed"]
    assert report["recorded"] == expected["recorded"]
    assert report["final_state"] == expected["final_state"]
    assert result.ok is (expected["final_state"] == "COMPLETED")


def test_payloads_hold_what_was_collected_for_just_the_runs_of_their_execution(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    result = bench.run(bench.request(inputs, calibrations=[{"name": "c", "strategy": "SequentialRunByRun"}]))
    assert values(result.databases["c"], "Mean") == {
        (7, 1, 7, 1): 4.5,
        (7, 2, 7, 4): 19.0,
        (7, 5, 7, 5): 72.5,
        (7, 6, 7, 6): 117.0,
    }


def test_gaps_between_recorded_iovs_are_reported(bench: Workbench) -> None:
    bench.run(bench.request(bench.files(RUNS), calibrations=[{"name": "c", "strategy": "SimpleRunByRun"}]))
    gaps = bench.place / "request/calibration_results/c/0/algorithm_output/Mean_iov_gaps.json"
    assert json.loads(gaps.read_text()) == [[7, 3, 7, 4]]


def test_ignored_runs_are_neither_collected_nor_calibrated_with(bench: Workbench) -> None:
    calibrations = [{"name": "c", "ignored_runs": [[7, 2], [7, 6]]}]
    result = bench.run(bench.request(bench.files(RUNS), calibrations=calibrations))
    assert values(result.databases["c"], "Mean", "events") == {(7, 1, 7, 5): 40.0}
    assert sorted(bench.done()) == ["e7r1.root", "e7r5.root"]


def test_only_runs_of_the_requested_iov_are_used(bench: Workbench) -> None:
    result = bench.run(bench.request(bench.files(RUNS), iov=IoV(7, 2, 7, 5)))
    assert values(result.databases["first"], "Mean", "events") == {(7, 2, 7, 5): 50.0}


def test_with_granularity_all_everything_is_one_heap(bench: Workbench) -> None:
    result = bench.run(bench.request(bench.files(RUNS), collector={"class": "CounterOfAll"}))
    assert values(result.databases["first"], "Mean", "events") == {(7, 1, 7, 6): 100.0}


def test_several_files_of_one_run_in_several_jobs_are_put_together(bench: Workbench) -> None:
    files = [(bench.file(f"data/{n}.root", n + 1), ExpRun(3, n % 2)) for n in range(6)]
    calibrations = [{"name": "c", "strategy": "SimpleRunByRun"}]
    result = bench.run(bench.request(files, max_files_per_job=1, calibrations=calibrations))
    assert values(result.databases["c"], "Mean", "events") == {(3, 0, 3, 0): 9.0, (3, 1, 3, 1): 12.0}


def test_a_directory_stands_for_all_its_root_files(bench: Workbench) -> None:
    bench.files(RUNS[:2])
    (bench.place / "data" / "notes.txt").write_text("not an input")
    result = bench.run(bench.request([(bench.place / "data", ExpRun(7, 1))]))
    assert result.collected.files == 2


def test_results_that_are_not_to_be_saved_are_seen_by_later_calibrations_only(bench: Workbench) -> None:
    calibrations = [
        {"name": "rough", "save_payloads": False},
        {"name": "fine", "depends_on": ["rough"], "shows_chain": True},
    ]
    result = bench.run(bench.request(bench.files(RUNS), calibrations=calibrations))
    assert list(result.databases) == ["fine"]
    assert values(result.databases["fine"], "Shown") == {(7, 1, 7, 6): 72.8}


def test_equal_inputs_give_equal_payload_files_wherever_they_are_worked_on(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    one = bench.run(bench.request(inputs, name="one"), cache="one-cache")
    two = bench.run(bench.request(inputs, name="two"), cache="two-cache")
    assert contents(one.databases["first"]) == contents(two.databases["first"])


def test_independent_calibrations_collect_at_the_same_time(bench: Workbench) -> None:
    heard = Notebook()
    result = bench.run(bench.request(bench.files(RUNS), calibrations=[{"name": "a"}, {"name": "b"}]), heard)
    assert result.ok
    order = [event[1:3] for event in heard.events if event[0] == "state"]
    assert order.index(("b", "running_collector")) < order.index(("a", "collector_completed"))


class TestIteration:
    def test_an_algorithm_that_wants_to_go_round_gets_its_extra_passes_and_then_success(self, bench: Workbench) -> None:
        heard = Notebook()
        calibrations = [{"name": "c", "does": "iterate", "max_iterations": 2, "also": ["previous"]}]
        request = bench.request(
            bench.files(RUNS[:1]), collector={"class": "CounterWithMean"}, calibrations=calibrations
        )
        result = bench.run(request, heard)
        assert result.ok
        assert result.iterations == {"c": 2}
        assert len(bench.done("calibrate")) == 3
        assert any("all 2 extra passes are used" in line for line in heard.logs)

    def test_each_pass_sees_the_payloads_of_the_pass_before_it(self, bench: Workbench) -> None:
        calibrations = [{"name": "c", "does": "iterate", "max_iterations": 1, "also": ["previous"]}]
        start = bench.constants("start", {"Mean": [(IoV(0, 0, -1, -1), 3.25)]})
        bench.run(
            bench.request(
                bench.files(RUNS[:1]),
                chain=(str(start),),
                collector={"class": "CounterWithMean"},
                calibrations=calibrations,
            )
        )
        results = bench.place / "request/calibration_results/c"
        assert values(results / "0/algorithm_output/outputdb", "Seen_previous") == {(7, 1, 7, 1): 3.25}
        assert values(results / "1/algorithm_output/outputdb", "Seen_previous") == {(7, 1, 7, 1): 4.5}

    def test_none_means_the_cafs_five_and_nought_means_one_pass(self, bench: Workbench) -> None:
        calibrations = [{"name": "a", "does": "iterate"}, {"name": "b", "does": "iterate", "max_iterations": 0}]
        result = bench.run(bench.request(bench.files(RUNS[:1]), calibrations=calibrations))
        assert result.iterations == {"a": 5, "b": 0}

    def test_a_pass_that_would_collect_the_same_takes_it_from_the_cache(self, bench: Workbench) -> None:
        calibrations = [{"name": "c", "does": "iterate", "max_iterations": 2}]
        result = bench.run(bench.request(bench.files(RUNS), calibrations=calibrations))
        assert (result.collected.jobs, result.collected.cached) == (4, 8)
        assert len(bench.done()) == 4


class TestDatabaseChain:
    def test_later_dependencies_come_first_then_the_constants_last_listed_first(self, bench: Workbench) -> None:
        low = bench.constants("low", {"Start": [(IoV(0, 0, -1, -1), 1.0)]})
        high = bench.constants("high", {"Start": [(IoV(7, 2, 7, 2), 2.0)]})
        calibrations = [{"name": "c", "strategy": "SimpleRunByRun", "also": ["start"]}]
        result = bench.run(
            bench.request(
                bench.files(RUNS),
                chain=(str(low), str(high / "database.txt")),
                collector={"class": "CounterWithConstants"},
                calibrations=calibrations,
            )
        )
        assert list(values(result.databases["c"], "Seen_start").values()) == [1.0, 2.0, 1.0, 1.0]

    def test_dependencies_are_seen_through_others_and_the_nearest_wins(self, bench: Workbench) -> None:
        calibrations = [
            {"name": "a"},
            {"name": "b", "depends_on": ["a"], "ignored_runs": [[7, 6]]},
            {"name": "c", "depends_on": ["b"], "shows_chain": True},
        ]
        result = bench.run(bench.request(bench.files(RUNS), calibrations=calibrations))
        assert result.ok
        plan = json.loads(
            (bench.place / "request/calibration_results/c/0/collector_input/default/collector_job.json").read_text()
        )
        folders = [Path(directory).parent.name for directory in plan["databases"]]
        assert folders == ["b", "a"]
        shown = values(result.databases["c"], "Shown")
        assert list(shown.values()) == list(values(result.databases["b"], "Mean").values())
