"""The cache explains itself: what was found, and why the rest was not."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from cache_workbench import make_former, make_older
from caf_workbench import SCRIPT, Notebook, Workbench

from b2cal_caf.cache_reasons import Aspect, FileReason, Why, explain, in_lines, plans_of
from b2cal_caf.collector_cache import CollectorCache
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ranges import ExpRun, IoV

RUNS = [(7, run, 10) for run in range(1, 5)]
ALWAYS = IoV(0, 0, -1, -1)


def why(bench: Workbench, name: str, **which) -> list[FileReason]:
    """Every file of a request, with its reason."""
    cache = CollectorCache.existing(bench.place / "cache")
    return explain(plans_of(bench.place / name, **which), cache)


def runs_by_sentence(reasons: Iterable[FileReason]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for reason in reasons:
        found.setdefault(reason.sentence, []).append(reason.run.run)
    return found


def changed(reasons: Iterable[FileReason]) -> set[tuple[str, str]]:
    """Aspect and name of all changes, where every file is a miss for some."""
    reasons = list(reasons)
    assert all(reason.why is Why.changed for reason in reasons), [reason.sentence for reason in reasons]
    return {(change.aspect.value, change.name) for reason in reasons for change in reason.changes}


def test_what_was_never_asked_for_is_new(bench: Workbench) -> None:
    bench.run(bench.request(bench.files(RUNS), name="one"))
    reasons = why(bench, "one")
    assert [(reason.why, reason.run) for reason in reasons] == [(Why.new, ExpRun(7, run)) for run in (1, 2, 3, 4)]
    assert {reason.sentence for reason in reasons} == {"not planned before with collector caf_synthetic.py:Counter"}


def test_a_hit_names_the_request_that_collected_it(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs[:2], name="one"))
    bench.run(bench.request(inputs[:3], name="two"))
    bench.run(bench.request(inputs, name="three"))
    assert runs_by_sentence(why(bench, "three")) == {
        f"in the cache, collected by {(bench.place / 'one').resolve()}": [1, 2],
        f"in the cache, collected by {(bench.place / 'two').resolve()}": [3],
        "not planned before with collector caf_synthetic.py:Counter": [4],
    }


def test_reasons_of_a_request_stay_what_they_were_when_others_came_after_it(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs, name="one"))
    before = why(bench, "one")
    bench.run(bench.request(inputs, name="two", collector={"scale": 2.0}))
    bench.run(bench.request(inputs, name="three"))
    assert why(bench, "one") == before
    assert changed(why(bench, "two")) == {("configuration", "scale")}
    assert {reason.why for reason in why(bench, "three")} == {Why.hit}


def test_a_changed_file_is_told_with_size_and_time(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs, name="one"))
    size = inputs[1][0].stat().st_size
    bench.file("data/e7r2.root", 50)
    os.utime(inputs[1][0], (1_700_000_000, 1_700_000_000))
    bench.run(bench.request(inputs, name="two"))
    (missed,) = [reason for reason in why(bench, "two") if not reason.is_hit]
    assert (missed.file, missed.sentence) == (str(inputs[1][0]), "the file changed")
    assert missed.detail.startswith(f"{size} bytes of ")
    assert f"→ {inputs[1][0].stat().st_size} bytes of 2023-11-14 22:13:20 UTC; planned before " in missed.detail


def test_a_changed_configuration_is_told_field_by_field(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    bench.run(bench.request(inputs, name="one"))
    bench.run(bench.request(inputs, name="two", collector={"scale": 2.0, "raises": ["other.root"]}))
    reasons = why(bench, "two")
    assert {reason.sentence for reason in reasons} == {
        'the collector\'s configuration changed: raises [] → ["other.root"], scale 1.0 → 2.0'
    }
    assert [(change.before, change.after) for change in reasons[0].changes] == [
        ("[]", '["other.root"]'),
        ("1.0", "2.0"),
    ]


def test_changed_code_is_told_and_so_is_all_that_changed_with_it(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    script = bench.place / "caf_copy.py"
    script.write_text(SCRIPT.read_text())
    bench.run(bench.request(inputs, name="one", script=script))
    script.write_text(SCRIPT.read_text() + "\nNEW = 1\n")
    bench.run(bench.request(inputs, name="two", script=script))
    assert changed(why(bench, "two")) == {("code", "")}
    script.write_text(SCRIPT.read_text() + "\nNEW = 2\n")
    bench.run(bench.request(inputs, name="three", script=script, collector={"scale": 3.0}))
    assert changed(why(bench, "three")) == {("code", ""), ("configuration", "scale")}


def test_only_the_payloads_it_reads_and_runs_they_changed_in_are_named(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    before = bench.constants("before", {"Start": [(ALWAYS, 1.0)], "Other": [(ALWAYS, 1.0)]})
    after = bench.constants("after", {"Start": [(ALWAYS, 1.0), (IoV(7, 3, 7, 3), 2.0)], "Other": [(ALWAYS, 5.0)]})
    collector = {"class": "CounterWithConstants"}
    bench.run(bench.request(inputs, name="one", chain=(str(before),), collector=collector))
    bench.run(bench.request(inputs, name="two", chain=(str(after),), collector=collector))
    (missed,) = [reason for reason in why(bench, "two") if not reason.is_hit]
    assert missed.run == ExpRun(7, 3)
    assert missed.sentence == "payloads it reads changed: Start"
    assert [(change.aspect, change.name) for change in missed.changes] == [(Aspect.payload, "Start")]


def test_a_payload_that_was_absent_before_is_told_as_such(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:1])
    chain = bench.constants("chain", {"Start": [(ALWAYS, 1.0)]})
    collector = {"class": "CounterWithConstants"}
    bench.run(bench.request(inputs, name="one", collector=collector))
    bench.run(bench.request(inputs, name="two", collector=collector, chain=(str(chain),)))
    (change,) = why(bench, "two")[0].changes
    assert (change.before, len(change.after)) == ("absent", 64)


def test_an_iteration_that_reads_the_payload_of_the_one_before_says_so(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:1])
    calibration = {"name": "first", "does": "iterate", "max_iterations": 1}
    bench.run(bench.request(inputs, name="one", calibrations=[calibration], collector={"class": "CounterWithMean"}))
    assert {reason.why for reason in why(bench, "one", iteration=0)} == {Why.new}
    assert changed(why(bench, "one", iteration=1)) == {("payload", "Mean")}


def test_the_former_time_that_differs_least_is_told_of(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:1])
    for name, collector in (("one", {"scale": 2.0}), ("two", {"scale": 3.0, "kills": ["x.root"]})):
        bench.run(bench.request(inputs, name=name, collector=collector))
    bench.run(bench.request(inputs, name="three", collector={"scale": 2.5}))
    (change,) = why(bench, "three")[0].changes
    assert (change.name, change.before, change.after) == ("scale", "2.0", "2.5")


def test_another_collector_class_over_the_same_file_does_not_count(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:1])
    bench.run(bench.request(inputs, name="one"))
    bench.run(bench.request(inputs, name="two", collector={"class": "CounterOfAll"}))
    assert why(bench, "two")[0].why is Why.new


def test_a_file_given_for_another_run_is_told(bench: Workbench) -> None:
    ((file, _),) = inputs = bench.files(RUNS[:1])
    bench.run(bench.request(inputs, name="one"))
    bench.run(bench.request([(file, ExpRun(7, 2))], name="two"))
    assert changed(why(bench, "two")) == {("run", "")}


def test_what_was_cleaned_away_is_told_and_what_was_damaged_too(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    bench.run(bench.request(inputs, name="one"))
    make_older(bench.place / "cache", hours=2)
    CollectorCache(bench.place / "cache").clean(0)
    bench.run(bench.request(inputs, name="two"))
    assert {(reason.why, reason.sentence) for reason in why(bench, "two")} == {
        (
            Why.removed,
            "the output was removed from the cache: it was not used for longest when the cache was cleaned to 0 GB",
        )
    }
    output = next((bench.place / "cache").glob("*/*.root"))
    content = output.read_bytes()
    output.unlink()
    output.write_bytes(content[:100])
    bench.run(bench.request(inputs, name="three"))
    removed, hit = sorted(why(bench, "three"), key=lambda reason: reason.is_hit)
    assert hit.is_hit
    assert "its file was damaged: truncated, 100 of" in removed.sentence


def test_what_was_collected_together_with_files_that_are_not_wanted_is_told(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs, name="one", max_files_per_job=2))
    bench.run(bench.request([inputs[0], *inputs[2:]], name="two", max_files_per_job=2))
    (missed,) = [reason for reason in why(bench, "two") if not reason.is_hit]
    assert (missed.run, missed.why) == (ExpRun(7, 1), Why.bundled)
    assert missed.sentence == "collected before in one output with files that are not asked for"


def test_what_failed_before_was_asked_for_but_is_not_there(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    raising = {"raises": ["e7r2.root"]}
    bench.run(bench.request(inputs, name="one", collector=raising))
    bench.run(bench.request(inputs, name="two", collector=raising))
    hit, missed = sorted(why(bench, "two"), key=lambda reason: reason.run)
    assert hit.is_hit
    assert (missed.why, missed.run) == (Why.unfinished, ExpRun(7, 2))
    assert f"asked for before by {(bench.place / 'one').resolve()}" in missed.sentence


class Emptied(Notebook):
    """Empties the cache between plan and use."""

    def __init__(self, cache: Path) -> None:
        super().__init__()
        self.cache = cache

    def state(self, calibration: str, state: str, iteration: int) -> None:
        super().state(calibration, state, iteration)
        if state == "running_collector":
            with CollectorCache.existing(self.cache).index.write() as connection:
                connection.execute("UPDATE kept SET used = used - 7200")
            CollectorCache.existing(self.cache).clean(0)


def test_what_went_between_plan_and_use_is_no_hit(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    bench.run(bench.request(inputs, name="one"))
    bench.run(bench.request(inputs, name="two"), Emptied(bench.place / "cache"))
    reasons = why(bench, "two")
    assert {reason.why for reason in reasons} == {Why.vanished}
    assert "gone before it was taken" in reasons[0].sentence


def test_plans_from_before_the_index_kept_records_are_told_apart(bench: Workbench) -> None:
    inputs = bench.files(RUNS[:2])
    bench.run(bench.request(inputs[:1], name="one"))
    bench.run(bench.request(inputs, name="two"))
    make_former(bench.place / "cache")
    hit, missed = why(bench, "two")
    assert hit.sentence == "in the cache, collected by an unknown request"
    assert missed.why is Why.unrecorded


def test_reasons_are_summed_up_with_counts_and_an_example(bench: Workbench) -> None:
    inputs = bench.files(RUNS)
    bench.run(bench.request(inputs[:1], name="one", max_files_per_job=2))
    bench.run(bench.request(inputs, name="two", max_files_per_job=2))
    found = [
        (line.files, line.subjobs, line.example.why, Path(line.example.file).name)
        for line in in_lines(why(bench, "two"))
    ]
    assert found == [(3, 2, Why.new, "e7r2.root"), (1, 1, Why.hit, "e7r1.root")]


def test_what_cannot_be_explained_says_why(bench: Workbench) -> None:
    with pytest.raises(DataError, match="holds no calibration_results"):
        plans_of(bench.place)
    (bench.place / "calibration_results").mkdir()
    with pytest.raises(DataError, match="nothing was collected yet"):
        plans_of(bench.place)
    bench.run(bench.request(bench.files(RUNS[:1]), name="one"))
    assert plans_of(bench.place / "one" / "calibration_results") == plans_of(bench.place / "one")
    with pytest.raises(ConfigurationError, match="has no calibration second; there is first"):
        plans_of(bench.place / "one", calibration="second")
    with pytest.raises(ConfigurationError, match="has no iteration 3; there is 0"):
        plans_of(bench.place / "one", iteration=3)
    with pytest.raises(ConfigurationError, match="has no collection other; there is default"):
        plans_of(bench.place / "one", collection="other")
    (plan,) = plans_of(bench.place / "one")
    plan.write_text("{}")
    with pytest.raises(DataError, match="no plan of the embedded CAF"):
        why(bench, "one")
