"""Collected once: what is found in the cache, and what is not."""

import subprocess
import sys
from pathlib import Path

import pytest
from cache_workbench import make_former, make_older
from caf_workbench import SCRIPT, Notebook, Workbench, contents, values

from b2cal_caf.collector_cache import CollectorCache
from b2cal_core.ranges import ExpRun, IoV
from resources.batch.local import LocalBatch
from resources.caf.embedded import EmbeddedCaf

RUNS = [(7, run, 10) for run in range(1, 9)]


def test_another_request_over_the_same_data_collects_nothing(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    one = bench.run(bench.request(inputs, name="one"))
    two = bench.run(bench.request(inputs, name="two"))
    assert (two.collected.jobs, two.collected.cached) == (0, 8)
    assert two.collected.events == one.collected.events
    assert contents(two.databases["first"]) == contents(one.databases["first"])
    assert len(bench.done()) == 8


def test_a_cached_output_is_shared_not_copied(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:1])
    for name in ("one", "two"):
        bench.run(bench.request(inputs, name=name))
    outputs = [path for path in bench.place.rglob("CollectorOutput.root") if path.is_file()]
    assert len({path.stat().st_ino for path in outputs}) == 1


def test_only_a_new_file_is_collected_though_the_split_changes(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs[:7], name="one", max_jobs=3))
    two = bench.run(bench.request(inputs, name="two", max_jobs=3))
    assert (two.collected.jobs, two.collected.cached) == (1, 3)
    assert len(bench.done()) == 8
    assert values(two.databases["first"], "Mean", "events") == {(7, 1, 7, 8): 80.0}


def test_when_a_run_is_taken_away_only_its_sub_job_is_redone(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs, name="one", max_files_per_job=2))
    rest = [pair for pair in inputs if pair[1] != ExpRun(7, 3)]
    two = bench.run(bench.request(rest, name="two", max_files_per_job=2))
    assert (two.collected.jobs, two.collected.cached) == (1, 3)
    assert bench.done()[8:] == ["e7r4.root"]
    assert values(two.databases["first"], "Mean", "events") == {(7, 1, 7, 8): 70.0}


def test_a_changed_file_is_collected_again(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs, name="one"))
    bench.file("data/e7r5.root", 11)
    two = bench.run(bench.request(inputs, name="two"))
    assert (two.collected.jobs, two.collected.cached) == (1, 7)


def test_another_configuration_of_the_collector_is_another_thing(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs, name="one"))
    two = bench.run(bench.request(inputs, name="two", collector={"scale": 2.0}))
    assert (two.collected.jobs, two.collected.cached) == (8, 0)


def test_changed_source_of_the_collector_is_another_thing_and_so_is_what_it_leans_on(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    script = bench.place / "caf_copy.py"
    script.write_text(SCRIPT.read_text())
    bench.run(bench.request(inputs, name="one", script=script))
    script.write_text(SCRIPT.read_text() + "\nNEW = 1\n")
    two = bench.run(bench.request(inputs, name="two", script=script))
    assert (two.collected.jobs, two.collected.cached) == (2, 0)


def test_only_runs_whose_constants_changed_are_collected_again(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    before = bench.constants("before", {"Start": [(IoV(0, 0, -1, -1), 1.0)]})
    after = bench.constants("after", {"Start": [(IoV(0, 0, -1, -1), 1.0), (IoV(7, 3, 7, 4), 2.0)]})
    collector = {"class": "CounterWithConstants"}
    bench.run(bench.request(inputs, name="one", chain=(str(before),), collector=collector))
    two = bench.run(bench.request(inputs, name="two", chain=(str(after),), collector=collector))
    assert (two.collected.jobs, two.collected.cached) == (2, 6)
    assert sorted(bench.done()[8:]) == ["e7r3.root", "e7r4.root"]


def test_constants_it_does_not_read_do_not_matter(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    chain = bench.constants("chain", {"Other": [(IoV(0, 0, -1, -1), 1.0)]})
    bench.run(bench.request(inputs, name="one"))
    two = bench.run(bench.request(inputs, name="two", chain=(str(chain),)))
    assert two.collected.cached == 2


def test_a_damaged_or_cleared_cache_is_no_obstacle(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:3])
    bench.run(bench.request(inputs, name="one", max_files_per_job=1))
    outputs = sorted((bench.place / "cache").glob("*/*.root"))
    outputs[0].unlink()
    damaged = outputs[1].read_bytes()[:100]
    outputs[1].unlink()
    outputs[1].write_bytes(damaged)
    two = bench.run(bench.request(inputs, name="two", max_files_per_job=1))
    assert two.ok
    assert (two.collected.jobs, two.collected.cached) == (2, 1)


def test_empty_files_are_looked_at_once(bench: Workbench) -> None:
    inputs = [*bench.files(RUNS[:1]), (bench.file("data/empty.root", 0), ExpRun(7, 9))]
    for name in ("one", "two"):
        result = bench.run(bench.request(inputs, name=name))
        assert [Path(file).name for file in result.collected.rejected] == ["empty.root"]


def test_adding_three_runs_to_a_bucket_of_a_hundred_collects_three(bench: Workbench) -> None:
    inputs = bench.files((7, run, 2) for run in range(1, 104))
    bench.run(bench.request(inputs[:100], name="one", max_files_per_job=10))
    two = bench.run(bench.request(inputs, name="two", max_files_per_job=10))
    assert (two.collected.jobs, two.collected.cached) == (1, 10)
    assert sorted(bench.done()[100:]) == ["e7r101.root", "e7r102.root", "e7r103.root"]


SCRIPT_APART = '''
"""A script whose collector lies in a module of its own."""
from pathlib import Path

from counting_collector import Counter

from b2cal_caf.calibration import Algorithm, Calibration, Collection, Step
from b2cal_core.ranges import ExpRun
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import AlgResult

settings = CalibrationSettings(
    name="Apart", input_data_formats=["raw"], input_data_names=["beam"], produced_payloads=["Mean"], expert_config={}
)


class Mean(Algorithm):
    def calibrate(self, execution):
        count = execution.data.sums("count")
        execution.save("Mean", {"value": FACTOR * count["total"] / count["events"]})
        return AlgResult.ok


def get_calibrations(input_data, **kwargs):
    files = {Path(file): ExpRun(iov.exp_low, iov.run_low) for file, iov in input_data["beam"].items()}
    return [Calibration("first", {"default": Collection(Counter(), files)}, [Step(Mean())])]
'''


def test_changing_only_the_algorithm_collects_nothing(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = bench.place / "modules"
    modules.mkdir()
    (modules / "counting_collector.py").write_text(SCRIPT.read_text())
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setenv("PYTHONPATH", str(modules))
    script = bench.place / "caf_apart.py"
    inputs = bench.files(RUNS[:3])
    found = []
    for factor, name in ((1, "one"), (2, "two")):
        script.write_text(SCRIPT_APART.replace("FACTOR", str(factor)))
        result = bench.run(bench.request(inputs, name=name, script=script))
        assert result.ok, result.errors
        found.append((result.collected.jobs, values(result.databases["first"], "Mean")[7, 1, 7, 3]))
    (before, mean), (after, twice) = found
    assert (before, after) == (3, 0)
    assert twice == 2 * mean


def test_a_damaged_output_is_replaced_so_that_the_next_request_finds_it_whole(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    bench.run(bench.request(inputs, name="one"))
    for output in (bench.place / "cache").glob("*/*.root"):
        content = output.read_bytes()
        output.unlink()
        output.write_bytes(content[:100])
    two = bench.run(bench.request(inputs, name="two"))
    three = bench.run(bench.request(inputs, name="three"))
    assert (two.collected.jobs, three.collected.jobs) == (2, 0)


class CleanedInBetween(Notebook):
    """Has the cache emptied by another process between the plan and its use."""

    def __init__(self, cache: Path) -> None:
        super().__init__()
        self._cache = cache

    def state(self, calibration: str, state: str, iteration: int) -> None:
        super().state(calibration, state, iteration)
        if state == "running_collector":
            make_older(self._cache, hours=2)
            subprocess.run([sys.executable, "-c", EMPTY, str(self._cache)], check=True)


EMPTY = """
import sys
from pathlib import Path
from b2cal_caf.collector_cache import CollectorCache
assert CollectorCache.existing(Path(sys.argv[1])).clean(0).outputs == 3
"""


def test_what_is_cleaned_away_between_plan_and_use_is_collected_again(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:3])
    one = bench.run(bench.request(inputs, name="one"))
    two = bench.run(bench.request(inputs, name="two"), CleanedInBetween(bench.place / "cache"))
    assert two.ok
    assert contents(two.databases["first"]) == contents(one.databases["first"])
    assert len(bench.done()) == 6


def test_a_caf_with_a_limit_keeps_its_cache_within_it(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:3])
    bench.run(bench.request(inputs, name="one"))
    make_older(bench.place / "cache", hours=2)
    limited = EmbeddedCaf(LocalBatch(2), None, bench.place / "cache", cache_limit=1)
    assert limited.run(bench.request(inputs[:1], name="two", collector={"scale": 2.0}), Notebook()).ok
    assert CollectorCache.existing(bench.place / "cache").usage().outputs == 1


def test_an_index_of_the_former_kind_is_used_on_and_nothing_is_collected_for_that(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:3])
    bench.run(bench.request(inputs, name="one"))
    make_former(bench.place / "cache")
    two = bench.run(bench.request(inputs, name="two"))
    assert (two.collected.jobs, two.collected.cached) == (0, 3)
    usage = CollectorCache.existing(bench.place / "cache").usage()
    files = list((bench.place / "cache").glob("*/*.root"))
    assert (usage.outputs, usage.size) == (3, sum(file.stat().st_size for file in files))
