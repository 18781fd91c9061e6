"""A step that only lost its database or its process has not failed by its own fault."""

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, StepFailureData
from dagster._core.execution.plan.objects import UserFailureData
from dagster._utils.error import SerializableErrorInfo

from sensors.dagster_runs import activity


@dg.op
def step() -> None:
    raise ValueError("of no matter")


@dg.job
def work() -> None:
    step()


def error(name: str, *, cause: SerializableErrorInfo | None = None, context: SerializableErrorInfo | None = None):
    return SerializableErrorInfo("it ended", [], name, cause, context)


LOST = error("OperationalError")


def failed_steps(failure: StepFailureData) -> set[str]:
    """What counts as failed after a Dagster run whose only step ended so."""
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(work, status=dg.DagsterRunStatus.STARTED)
        event = DagsterEvent(DagsterEventType.STEP_FAILURE.value, "work", step_key="step", event_specific_data=failure)
        instance.report_dagster_event(event, run.run_id)
        instance.report_run_failed(run)
        (ended,) = instance.get_runs()
        return set(activity(instance, [ended]).failed)


@pytest.mark.parametrize(
    "lost",
    [
        LOST,
        error("DagsterMySQLException"),
        error("ChildProcessCrashException"),
        error("BackendError", cause=LOST),
        error("RetryRequested", cause=error("BackendError", cause=LOST)),
        error("DagsterResourceFunctionError", context=error("InterfaceError")),
    ],
)
def test_a_lost_database_or_process_is_no_failure_of_the_step(lost: SerializableErrorInfo) -> None:
    assert failed_steps(StepFailureData(lost, None)) == set()


def test_an_error_of_the_step_is_one() -> None:
    fault = error("DagsterExecutionStepExecutionError", cause=error("ValueError"))
    assert failed_steps(StepFailureData(fault, None)) == {"step"}


def test_what_a_step_says_in_its_own_words_is_one_whatever_is_behind_it() -> None:
    said = UserFailureData(label="intentional-failure", description="the tables are of another version", metadata={})
    assert failed_steps(StepFailureData(error("Failure", cause=LOST), said)) == {"step"}
