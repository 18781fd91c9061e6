"""What people are told when something goes wrong under basf2, and whose turn it is."""

import dataclasses
from pathlib import Path

import pytest
from basf2_workbench import Basf2Workbench
from caf_workbench import Notebook

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.ports import CafRequest
from resources.caf.basf2_subjobs import EXIT_CODE

RUNS = [(7, 1, 10), (7, 2, 20), (7, 3, 30)]


class TestCollectors:
    def error(self, basf2: Basf2Workbench, **collector: object) -> str:
        request = basf2.request(basf2.files(RUNS), collector=collector)
        result = basf2.basf2().run(request, Notebook())
        assert result.states == {"first": "failed"}
        assert result.databases == {}
        return result.errors["first"]

    def test_an_exception_is_quoted_with_the_sub_job_its_files_and_its_log(self, basf2: Basf2Workbench) -> None:
        message = self.error(basf2, raises=["e7r2.root"])
        directory = basf2.place / "request/calibration_results/first/0/collector_output/default/1"
        assert message.startswith(
            "calibration first: sub-job 1 of collection 'default' failed: ValueError: cannot digest"
        )
        assert f"its files: {basf2.place / 'data' / 'e7r2.root'}; see {directory / 'stderr'}" in message

    def test_a_killed_sub_job_is_said_to_be_killed(self, basf2: Basf2Workbench) -> None:
        message = self.error(basf2, kills=["e7r1.root", "e7r3.root"])
        assert "sub-job 0 of collection 'default' failed: killed by signal 9 (SIGKILL)" in message
        assert message.endswith("(and 1 more sub-jobs)")

    def test_a_full_disk_is_said_to_be_one_with_what_to_do(self, basf2: Basf2Workbench) -> None:
        message = self.error(basf2, fills_disk=["e7r1.root"])
        assert "no room left on the disk of" in message
        assert "make room" in message

    def test_a_failed_request_asked_for_again_is_tried_again(self, basf2: Basf2Workbench) -> None:
        files = basf2.files(RUNS[:1]) + basf2.files(RUNS[1:2], folder="apart")
        request = basf2.request(files, collector={"kills_once": ["e7r2.root"]})
        assert basf2.basf2().run(request, Notebook()).states == {"first": "failed"}
        assert basf2.basf2().run(request, Notebook()).ok

    def test_a_sub_job_that_left_nothing_was_lost(self, basf2: Basf2Workbench) -> None:
        """A tool that gave up on a job of which the batch system knows nothing any more."""
        request = basf2.request(basf2.files(RUNS[:1]), collector={"raises": ["e7r1.root"]})
        basf2.basf2().run(request, Notebook())
        (request.directory / f"calibration_results/first/0/collector_output/default/0/{EXIT_CODE}").unlink()
        basf2.tool("touch calibration_results/caf_state.db; echo 'RuntimeError: first failed!' >&2; exit 1")
        result = basf2.basf2().run(request, Notebook())
        assert "left no exit code: the batch system lost, held or removed it" in result.errors["first"]

    def test_a_sub_job_without_output_is_said_to_lack_it(self, basf2: Basf2Workbench) -> None:
        request = basf2.request(basf2.files(RUNS[:1]), calibrations=[{"name": "first", "does": "raise"}])
        basf2.basf2().run(request, Notebook())
        (request.directory / "calibration_results/first/0/collector_output/default/0/CollectorOutput.root").unlink()
        log = request.directory / "calibration_results/first/0/algorithm_output/Mean_stdout"
        log.unlink()
        result = basf2.basf2().run(request, Notebook())
        assert "it ended well but left no CollectorOutput.root" in result.errors["first"]


class TestAlgorithms:
    @pytest.mark.parametrize(
        ("does", "words"),
        [
            ("raise", "RuntimeError: the fit did not converge"),
            ("failure", "failure, 0 payloads"),
            ("not_enough_data", "not_enough_data, 0 payloads"),
        ],
    )
    def test_a_failing_algorithm_is_quoted_and_only_what_depends_on_it_is_skipped(
        self, basf2: Basf2Workbench, does: str, words: str
    ) -> None:
        calibrations = [
            {"name": "bad", "does": does},
            {"name": "below", "depends_on": ["bad"]},
            {"name": "further", "depends_on": ["below"]},
            {"name": "apart"},
        ]
        request = basf2.request(basf2.files(RUNS), calibrations=calibrations, max_jobs=1)
        heard = Notebook()
        result = basf2.basf2().run(request, heard)
        assert result.states == {"bad": "failed", "below": "skipped", "further": "skipped", "apart": "completed"}
        assert "algorithm Mean failed: " in result.errors["bad"]
        assert words in result.errors["bad"]
        assert "Mean_stdout" in result.errors["bad"]
        assert result.errors["below"] == (
            "not started, because a calibration it depends on did not complete (failed: bad)"
        )
        assert list(result.databases) == ["apart"]
        assert heard.states("further")[-1] == "skipped"

    def test_asking_again_runs_only_what_did_not_complete(self, basf2: Basf2Workbench) -> None:
        calibrations = [{"name": "good"}, {"name": "bad", "does": "raise", "depends_on": ["good"]}]
        request = basf2.request(basf2.files(RUNS[:1]), calibrations=calibrations)
        basf2.basf2().run(request, Notebook())
        result = basf2.basf2().run(request, Notebook())
        assert result.states == {"good": "completed", "bad": "failed"}
        assert [line.split()[0] for line in basf2.done("calibrate")] == ["good", "bad", "bad"]
        assert len(basf2.done()) == 2


class TestTheTool:
    def request(self, basf2: Basf2Workbench) -> CafRequest:
        return basf2.request(basf2.files(RUNS[:1]))

    def test_a_release_that_cannot_be_set_up_is_said_with_its_own_words(self, basf2: Basf2Workbench) -> None:
        caf = basf2.basf2("echo 'no such release: 99' >&2; (exit 3)")
        with pytest.raises(ConfigurationError, match=r"cannot be set up.*exit code 3: no such release: 99"):
            caf.run(self.request(basf2), Notebook())

    @pytest.mark.parametrize("line", ["exit 0", "set -e; false; true", "return 3"])
    def test_a_set_up_that_leaves_the_shell_is_no_success(self, basf2: Basf2Workbench, line: str) -> None:
        with pytest.raises(ConfigurationError, match="cannot be set up"):
            basf2.basf2(line).run(self.request(basf2), Notebook())

    def test_a_missing_tool_is_named(self, basf2: Basf2Workbench) -> None:
        with pytest.raises(ConfigurationError, match="b2caf-prompt-show is not found after"):
            basf2.basf2("PATH=/usr/bin:/bin").run(self.request(basf2), Notebook())

    def test_a_set_up_does_not_see_the_arguments_of_the_tool(self, basf2: Basf2Workbench) -> None:
        assert basf2.basf2('[ -z "$*" ]').run(self.request(basf2), Notebook()).ok

    @pytest.mark.parametrize("body", ["    raise ValueError('too few events')\n", "    return 1 / 0\n"])
    def test_a_script_that_raises_is_quoted(self, basf2: Basf2Workbench, body: str) -> None:
        script = basf2.scripts / "caf_raising.py"
        text = (basf2.scripts / "caf_synthetic.py").read_text().partition("def get_calibrations")[0]
        script.write_text(f"{text}def get_calibrations(input_data, **kwargs):\n{body}")
        request = dataclasses.replace(self.request(basf2), script=script)
        with pytest.raises(ConfigurationError, match=r"refused the request.*(ValueError: too few|ZeroDivisionError)"):
            basf2.basf2().run(request, Notebook())

    def test_a_script_that_cannot_be_imported_is_quoted(self, basf2: Basf2Workbench) -> None:
        script = basf2.scripts / "caf_broken.py"
        script.write_text("this is not Python\n")
        request = dataclasses.replace(self.request(basf2), script=script)
        with pytest.raises(ConfigurationError, match=r"caf_broken.py cannot be used in the basf2 release: .*NameError"):
            basf2.basf2().run(request, Notebook())

    def test_a_missing_input_is_named(self, basf2: Basf2Workbench) -> None:
        request = dataclasses.replace(self.request(basf2), input_data={"other": ()})
        with pytest.raises(ConfigurationError, match="'Synthetic' needs the inputs beam; input_data lacks beam"):
            basf2.basf2().run(request, Notebook())

    def test_settings_that_are_no_json_are_shown(self, basf2: Basf2Workbench) -> None:
        basf2.tool("echo '<html>maintenance</html>'", "b2caf-prompt-show")
        with pytest.raises(ConfigurationError, match="as a JSON object, it said '<html>maintenance</html>'"):
            basf2.basf2().run(self.request(basf2), Notebook())

    def test_settings_may_follow_lines_of_the_log(self, basf2: Basf2Workbench) -> None:
        basf2.tool('echo "[INFO] welcome"; exec "${0/tools/real}" "$@"', "b2caf-prompt-show")
        (basf2.place / "real").symlink_to(Path(__file__).parent / "fake_basf2")
        assert basf2.basf2().run(self.request(basf2), Notebook()).ok

    def test_a_tool_that_says_nonsense_and_succeeds_is_not_believed(self, basf2: Basf2Workbench) -> None:
        basf2.tool("printf '\\xff\\x00 nonsense'; exit 0")
        with pytest.raises(ConfigurationError, match=r"refused the request.*nonsense"):
            basf2.basf2().run(self.request(basf2), Notebook())

    def test_a_state_database_that_is_none_is_not_believed(self, basf2: Basf2Workbench) -> None:
        basf2.tool("mkdir calibration_results; echo nonsense > calibration_results/caf_state.db; exit 3")
        with pytest.raises(BackendError, match="broke off with exit code 3"):
            basf2.basf2().run(self.request(basf2), Notebook())

    def test_a_tool_that_is_killed_is_worth_another_try(self, basf2: Basf2Workbench) -> None:
        basf2.tool("kill -SEGV $$")
        with pytest.raises(BackendError, match="was killed by signal 11") as caught:
            basf2.basf2().run(self.request(basf2), Notebook())
        assert caught.value.transient
        basf2.take_away()
        assert basf2.basf2().run(self.request(basf2), Notebook()).ok

    def test_a_tool_that_breaks_in_the_middle_is_the_platforms_affair(self, basf2: Basf2Workbench) -> None:
        basf2.tool(
            "mkdir calibration_results; python3 - <<END\n"
            "import sqlite3\n"
            "with sqlite3.connect('calibration_results/caf_state.db') as state:\n"
            "    state.execute('create table calibrations(name, state, checkpoint, iteration)')\n"
            "    state.execute('insert into calibrations values (?, ?, ?, ?)', ('c', 'running_collector', 'init', 0))\n"
            "END\n"
            "echo 'CalledProcessError: condor_q' >&2; exit 1"
        )
        heard = Notebook()
        with pytest.raises(BackendError, match="broke off with exit code 1: CalledProcessError: condor_q"):
            basf2.basf2().run(self.request(basf2), heard)
        assert heard.states("c") == ["running_collector"]

    def test_a_full_disk_under_the_tool_is_said_to_be_one(self, basf2: Basf2Workbench) -> None:
        basf2.tool("echo 'OSError: [Errno 28] No space left on device' >&2; exit 1")
        with pytest.raises(BackendError, match=r"no room left on the disk of .*request; make room"):
            basf2.basf2().run(self.request(basf2), Notebook())

    def test_errors_of_basf2_are_passed_on(self, basf2: Basf2Workbench) -> None:
        heard = Notebook()
        request = basf2.request(basf2.files(RUNS[:1]), collector={"raises": ["e7r1.root"]})
        basf2.basf2().run(request, heard)
        assert "basf2: [ERROR] Collector of first failed" in heard.logs
