"""What an exit code tells of a job."""

import pytest

from b2cal_core.jobs import EXIT_DISK_FULL, EXIT_NO_INPUT, EXIT_OUT_OF_MEMORY, Cause, JobState, JobStatus


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (1, Cause.code),
        (128, Cause.code),
        (EXIT_NO_INPUT, Cause.input),
        (EXIT_OUT_OF_MEMORY, Cause.memory),
        (EXIT_DISK_FULL, Cause.disk),
    ],
)
def test_a_code_that_is_not_zero_is_a_failure_with_its_cause(code: int, cause: Cause) -> None:
    state = JobState.of_exit_code(code)
    assert (state.status, state.exit_code, state.signal, state.cause) == (JobStatus.failed, code, None, cause)
    assert state.reason


@pytest.mark.parametrize(("code", "number", "name"), [(-9, 9, "SIGKILL"), (139, 11, "SIGSEGV"), (-63, 63, "unnamed")])
def test_a_signal_is_told_as_processes_and_as_shells_do(code: int, number: int, name: str) -> None:
    state = JobState.of_exit_code(code)
    assert (state.status, state.exit_code, state.signal, state.cause) == (JobStatus.failed, None, number, Cause.killed)
    assert name in state.reason


def test_zero_is_the_only_good_end() -> None:
    assert JobState.of_exit_code(0) == JobState(JobStatus.completed, exit_code=0)


def test_only_what_cannot_change_any_more_is_final() -> None:
    assert {status for status in JobStatus if status.is_final} == {JobStatus.completed, JobStatus.failed}
