"""Questions about the Dagster runs of a bucket."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg
from dagster._core.execution.stats import StepEventStatus  # the type of a public answer
from dagster_shared.error import SerializableErrorInfo  # another one

from b2cal_assets.bucket_cells import Activity, StepFailure
from b2cal_assets.bucket_runs import why_failed
from b2cal_assets.campaign_assets import CAMPAIGN_TAG, bucket_job_name
from b2cal_assets.campaign_plans import CampaignPlan

_PARTITION_TAG = "dagster/partition"
_NO_FAULT_OF_THE_STEP = {
    *("OperationalError", "InterfaceError", "DagsterMySQLException"),  # a database went away
    "ChildProcessCrashException",  # somebody killed its process
}
"""What is behind the failure of a step with which nothing was wrong."""
_NOT_QUEUED = [status for status in dg.DagsterRunStatus if status is not dg.DagsterRunStatus.QUEUED]
_ENOUGH = 50
"""More attempts than that at one bucket tell nothing new."""


def runs_of_bucket(instance: dg.DagsterInstance, plan: CampaignPlan, bucket: str) -> list[dg.DagsterRun]:
    """The Dagster runs that worked or will work on a bucket, newest first, those started in the UI included."""
    records = instance.get_run_records(dg.RunsFilter(tags={_PARTITION_TAG: bucket}), limit=_ENOUGH)
    return [record.dagster_run for record in records if _belongs(record.dagster_run, plan)]


def begun_buckets(instance: dg.DagsterInstance, buckets: Iterable[str]) -> set[str]:
    """Those of the buckets that a Dagster run of any campaign has begun to work; one question about all of them."""
    keys = list(buckets)
    begun = dg.RunsFilter(tags={_PARTITION_TAG: keys}, statuses=_NOT_QUEUED)
    return {found.partition for found in instance.get_run_partition_data(begun)} if keys else set()


def _belongs(run: dg.DagsterRun, plan: CampaignPlan) -> bool:
    """Bucket keys of two campaigns may be equal; a run of single assets has no campaign tag, only its assets."""
    if CAMPAIGN_TAG in run.tags or run.job_name == bucket_job_name(plan.name):
        return run.tags.get(CAMPAIGN_TAG, plan.name) == plan.name
    return any(key.path[0] == plan.name for key in run.asset_selection or ())


def activity(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> Activity:
    """What these Dagster runs do and did.

    The failures of one that ended well do not count, nor does that of a step that was tried again since and did not
    fail: what is still lacking then waits for something else, its gate.
    """
    running: set[str] = set()
    failed: dict[str, StepFailure] = {}
    for run in runs:
        if not run.is_finished:
            stats = instance.get_run_step_stats(run.run_id)
            running |= {step.step_key for step in stats if step.status is StepEventStatus.IN_PROGRESS}
        elif run.status is not dg.DagsterRunStatus.SUCCESS:
            for step, failure in _failures(instance, run):
                if step not in failed or failed[step].when < failure.when:
                    failed[step] = failure
    again = _tried_again(instance, runs, failed) if failed else set()
    failed = {step: failure for step, failure in failed.items() if step not in again}
    is_queued = any(run.status is dg.DagsterRunStatus.QUEUED for run in runs)
    return Activity(frozenset(running), failed, is_queued=is_queued)


def _tried_again(
    instance: dg.DagsterInstance, runs: Iterable[dg.DagsterRun], failed: Mapping[str, StepFailure]
) -> set[str]:
    """The steps that ended well after their failure."""
    return {
        step.step_key
        for run in runs
        for step in instance.get_run_step_stats(run.run_id, list(failed))
        if step.status is StepEventStatus.SUCCESS and (step.end_time or 0.0) > failed[step.step_key].when
    }


def _failures(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[tuple[str, StepFailure]]:
    """The steps that failed in a Dagster run, by their own fault."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        if event is not None and not _may_start_again(event):
            yield str(event.step_key), StepFailure(why_failed(event), entry.timestamp)


def _may_start_again(event: dg.DagsterEvent) -> bool:
    """Whether nothing was wrong with the step, which also did not say in its own words that something was."""
    data = event.step_failure_data
    own_words = data.user_failure_data is not None
    return not own_words and any(error.cls_name in _NO_FAULT_OF_THE_STEP for error in _with_causes(data.error))


def _with_causes(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    """The error, and what was behind it."""
    while error is not None:
        yield error
        error = error.cause or error.context
