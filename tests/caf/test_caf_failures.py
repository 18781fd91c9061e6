"""What a calibration script leaves behind when something goes wrong, and what people are told."""

from pathlib import Path

import pytest
from caf_workbench import Notebook, Workbench, values

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun

RUNS = [(7, 1, 10), (7, 2, 20), (7, 3, 30)]


class TestInputFiles:
    def test_files_that_cannot_be_used_are_left_out_and_named_with_the_reason(self, bench: Workbench) -> None:
        good = bench.file("data/good.root", 5)
        empty = bench.file("data/empty.root", 0)
        cut = bench.file("data/cut.root", 100)
        cut.write_bytes(cut.read_bytes()[:400])
        text = bench.place / "data" / "text.root"
        text.write_text("plain text, and long enough to be taken for a header")
        nothing = bench.place / "data" / "nothing.root"
        nothing.touch()
        twin = bench.place / "data" / "twin.root"
        twin.symlink_to(good)
        no_tree = bench.place / "data" / "no_tree.root"
        from b2cal_caf.payload_files import write_payload  # noqa: PLC0415 (a ROOT file without the tree)

        write_payload(no_tree, "other", {"x": [1.0]})
        missing = bench.place / "data" / "missing.root"
        inputs = [(file, ExpRun(7, 1)) for file in (good, empty, cut, text, nothing, twin, no_tree, missing)]
        heard = Notebook()
        result = bench.run(bench.request(inputs), heard)
        assert result.ok
        reasons = {Path(file).name: reason for file, reason in result.collected.rejected.items()}
        assert reasons.pop("cut.root").startswith("truncated, 400 of ")
        assert "tree" in reasons.pop("no_tree.root")
        assert reasons == {
            "empty.root": "it holds no events",
            "text.root": "this is no ROOT file",
            "nothing.root": "the file is empty",
            "twin.root": "it is listed twice",
            "missing.root": "it does not exist",
        }
        assert bench.done() == ["good.root"]
        assert sum("missing.root is left out: it does not exist" in line for line in heard.logs) == 1

    def test_a_calibration_without_any_usable_file_fails_and_says_why(self, bench: Workbench) -> None:
        empty = bench.file("data/empty.root", 0)
        result = bench.run(bench.request([(empty, ExpRun(7, 1))]))
        assert result.states == {"first": "failed"}
        assert "no collection with a usable input file" in result.errors["first"]
        assert "it holds no events" in result.errors["first"]

    def test_a_calibration_whose_runs_are_all_ignored_fails(self, bench: Workbench) -> None:
        calibrations = [{"name": "c", "ignored_runs": [[7, 1]]}]
        result = bench.run(bench.request(bench.files(RUNS[:1]), calibrations=calibrations))
        assert result.states == {"c": "failed"}


class TestAlgorithms:
    @pytest.mark.parametrize("strategy", ["SequentialRunByRun", "SequentialBoundaries"])
    def test_a_calibration_that_has_not_enough_data_also_when_runs_are_merged_says_so(
        self, bench: Workbench, strategy: str
    ) -> None:
        does = {"does": "not_enough_data", "strategy": strategy, "payload_boundaries": [[7, 2]]}
        result = bench.run(bench.request(bench.files(RUNS), calibrations=[{"name": "bad", **does}]))
        assert result.short_of_data == {"bad"}
        assert "has not enough data" in result.errors["bad"]

    @pytest.mark.parametrize(
        ("does", "words"),
        [
            ("raise", "RuntimeError: the fit did not converge"),
            ("crash", "killed by signal 11 (SIGSEGV)"),
            ("failure", "answered failure for 7,1,7,3"),
            ("not_enough_data", "has not enough data for 7,1,7,3"),
        ],
    )
    def test_a_failing_algorithm_fails_its_calibration_and_skips_only_what_depends_on_it(
        self, bench: Workbench, does: str, words: str
    ) -> None:
        calibrations = [
            {"name": "bad", "does": does},
            {"name": "below", "depends_on": ["bad"]},
            {"name": "further", "depends_on": ["below"]},
            {"name": "apart"},
        ]
        result = bench.run(bench.request(bench.files(RUNS), calibrations=calibrations, max_jobs=1))
        assert result.states == {"bad": "failed", "below": "skipped", "further": "skipped", "apart": "completed"}
        assert not result.ok
        assert words in result.errors["bad"]
        assert result.short_of_data == ({"bad"} if does == "not_enough_data" else set())
        assert "Mean_stdout" in result.errors["bad"]
        assert "bad" in result.errors["below"]
        assert list(result.databases) == ["apart"]

    def test_asking_again_runs_only_what_did_not_complete(self, bench: Workbench) -> None:
        inputs = bench.files(RUNS)
        calibrations = [{"name": "good"}, {"name": "bad", "does": "raise", "depends_on": ["good"]}]
        request = bench.request(inputs, calibrations=calibrations)
        bench.run(request)
        result = bench.run(request)
        assert result.states == {"good": "completed", "bad": "failed"}
        assert not result.resumed
        calibrated = [line.split()[0] for line in bench.done("calibrate")]
        assert calibrated == ["good", "bad", "bad"]
        assert len(bench.done()) == 3


class TestSubJobs:
    def test_an_exception_of_the_collector_is_not_tried_again_and_is_quoted(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS), collector={"raises": ["e7r2.root"]})
        result = bench.run(request)
        assert result.states == {"first": "failed"}
        message = result.errors["first"]
        for words in (
            "sub-job 1 of collection 'default'",
            "ValueError: cannot digest e7r2.root",
            "stderr",
            "exp 7 run 2",
        ):
            assert words in message
        assert bench.done().count("e7r2.root") == 1

    def test_what_the_other_sub_jobs_collected_is_kept(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS), collector={"raises": ["e7r2.root"]})
        bench.run(request)
        bench.run(request)
        assert sorted(bench.done()) == ["e7r1.root", "e7r2.root", "e7r2.root", "e7r3.root"]

    def test_a_killed_sub_job_is_tried_again(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS), collector={"kills_once": ["e7r2.root"]})
        result = bench.run(request)
        assert result.ok
        assert values(result.databases["first"], "Mean", "events") == {(7, 1, 7, 3): 60.0}
        assert sorted(bench.done()) == ["e7r1.root", "e7r2.root", "e7r2.root", "e7r3.root"]
        subjob = bench.place / "request/calibration_results/first/0/collector_output/default/1"
        assert (subjob / "attempt_0" / "exit_code").read_text().strip() == "-9"

    def test_a_sub_job_killed_every_time_is_given_up_after_two_more_attempts(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS), collector={"kills": ["e7r2.root"]})
        result = bench.run(request)
        assert "killed by signal 9" in result.errors["first"]
        assert bench.done().count("e7r2.root") == 3

    def test_a_full_disk_is_said_to_be_one_with_what_to_do(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS[:2]), collector={"fills_disk": ["e7r1.root", "e7r2.root"]})
        result = bench.run(request)
        message = result.errors["first"]
        assert "no room left on the disk of" in message
        assert "make room" in message
        assert "default" in message
        assert len(bench.done()) == 2

    def test_constants_that_are_not_declared_cannot_be_read(self, bench: Workbench) -> None:
        result = bench.run(bench.request(bench.files(RUNS[:1]), collector={"class": "UndeclaredReader"}))
        assert "reads payload Start but declares none in `reads`" in result.errors["first"]


class TestScripts:
    def test_a_circle_of_dependencies_is_named(self, bench: Workbench) -> None:
        calibrations = [{"name": "a", "depends_on": ["b"]}, {"name": "b", "depends_on": ["a"]}]
        with pytest.raises(ConfigurationError, match="a -> b -> a"):
            bench.run(bench.request(bench.files(RUNS), calibrations=calibrations))

    def test_a_dependency_that_is_not_returned_is_dropped_with_a_remark(self, bench: Workbench) -> None:
        calibrations = [{"name": "a", "returned": False}, {"name": "b", "depends_on": ["a"]}]
        heard = Notebook()
        assert bench.run(bench.request(bench.files(RUNS[:1]), calibrations=calibrations), heard).ok
        assert any("depends on a, which the script does not return" in line for line in heard.logs)

    def test_a_strategy_that_needs_runs_apart_refuses_one_heap(self, bench: Workbench) -> None:
        calibrations = [{"name": "a", "strategy": "SequentialRunByRun"}]
        request = bench.request(bench.files(RUNS), collector={"class": "CounterOfAll"}, calibrations=calibrations)
        with pytest.raises(ConfigurationError, match="SequentialRunByRun of calibration a needs granularity run"):
            bench.run(request)
        assert bench.done() == []

    def test_two_calibrations_of_one_name_are_refused(self, bench: Workbench) -> None:
        with pytest.raises(ConfigurationError, match="two calibrations"):
            bench.run(bench.request(bench.files(RUNS), script=self.script(bench, "[a, Calibration('a', {}, a.steps)]")))

    @pytest.mark.parametrize(
        ("returned", "words"),
        [
            ("[]", "returned no calibration"),
            ("3", "must return a list"),
            ("[3]", "must return calibrations, it returned a int"),
            ("[Calibration('a', {}, [])]", "has no algorithm"),
            ("[Calibration('a/b', {}, a.steps)]", "no / and no leading dot"),
            ("[Calibration('x' * 65, {}, a.steps)]", "1 to 64 characters"),
            ("[Calibration('a', {}, a.steps, max_iterations=-1)]", "counts extra passes"),
            ("[Calibration('a', {'default': Collection(Sloppy(), {})}, a.steps)]", "must be a frozen dataclass"),
            ("[Calibration('a', {'default': Collection(Odd(object()), {})}, a.steps)]", "cannot be written as JSON"),
            ("1 / 0", r"line \d+ raised ZeroDivisionError"),
        ],
    )
    def test_what_cannot_work_is_refused_before_anything_is_submitted(
        self, bench: Workbench, returned: str, words: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=words):
            bench.run(bench.request(bench.files(RUNS), script=self.script(bench, returned)))
        assert bench.done() == []

    def script(self, bench: Workbench, returned: str) -> Path:
        path = bench.place / "caf_odd.py"
        path.write_text(
            "from dataclasses import dataclass\n"
            "from b2cal_caf.calibration import *\n"
            "from b2cal_core.settings import CalibrationSettings\n"
            "settings = CalibrationSettings(name='Odd', input_data_formats=['raw'], input_data_names=['beam'])\n"
            "class Sloppy(Collector):\n"
            "    def collect(self, file, run, conditions):\n        return {}\n"
            "@dataclass(frozen=True)\n"
            "class Odd(Sloppy):\n    thing: object\n"
            "class Fit(Algorithm):\n"
            "    def calibrate(self, execution):\n        return AlgResult.ok\n"
            "def get_calibrations(input_data, **kwargs):\n"
            "    a = Calibration('a', {}, [Step(Fit())])\n"
            f"    return {returned}\n"
        )
        return path

    def test_an_input_that_the_script_needs_must_be_there(self, bench: Workbench) -> None:
        request = bench.request([])
        lacking = type(request)(
            request.directory, request.script, (), request.requested_iov, {"other": ()}, request.expert_config
        )
        with pytest.raises(ConfigurationError, match="lacks beam"):
            bench.run(lacking)

    def test_a_tag_without_a_conditions_database_is_refused(self, bench: Workbench) -> None:
        with pytest.raises(ConfigurationError, match="'some_tag'"):
            bench.run(bench.request(bench.files(RUNS), chain=("some_tag",)))
