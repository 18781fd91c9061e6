"""A step that only lost the database with Dagster's record has not failed by its own fault."""

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, StepFailureData
from dagster._utils.error import SerializableErrorInfo

from sensors.dagster_runs import activity


@dg.op
def step() -> None:
    raise ValueError("of no matter")


@dg.job
def work() -> None:
    step()


@pytest.mark.parametrize(
    ("error", "failed"),
    [("OperationalError", set()), ("DagsterMySQLException", set()), ("DagsterExecutionStepExecutionError", {"step"})],
)
def test_a_lost_record_is_no_failure_of_the_step(error: str, failed: set[str]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(work, status=dg.DagsterRunStatus.STARTED)
        failure = StepFailureData(SerializableErrorInfo("it ended", [], error), None)
        event = DagsterEvent(DagsterEventType.STEP_FAILURE.value, "work", step_key="step", event_specific_data=failure)
        instance.report_dagster_event(event, run.run_id)
        instance.report_run_failed(run)
        (ended,) = instance.get_runs()
        assert set(activity(instance, [ended]).failed) == failed
