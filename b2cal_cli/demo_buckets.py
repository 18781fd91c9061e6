"""Forming the demo's buckets with the sensor of the platform, which the daemon would otherwise tick."""

import dagster as dg

from b2cal_assets.campaign_assets import bucket_job
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.workshop import Workshop
from b2cal_cli.bucket_forming import close_by_hand, waiting_runs
from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError
from resources.home import Home
from sensors.new_runs import new_runs_sensor

_CURSOR = "b2cal_demo_new_runs"
_LIMIT_OF_TICKS = 100


def form_demo_buckets(
    home: Home, plan: CampaignPlan, workshop: Workshop, *, instance: dg.DagsterInstance
) -> tuple[Bucket, ...]:
    """All buckets of the campaign, in order: the sensor takes in every run, and the last bucket is closed by hand."""
    _tick(plan, workshop, instance)
    store = workshop.campaigns
    if waiting_runs(home, plan.campaign, store.buckets(plan.name)).waiting:
        close_by_hand(home, plan.campaign, store, last=None)
        _tick(plan, workshop, instance)
    return store.buckets(plan.name)


def _tick(plan: CampaignPlan, workshop: Workshop, instance: dg.DagsterInstance) -> None:
    """Let the sensor look until it has seen every run; what it asks for is worked in this process afterwards."""
    sensor = new_runs_sensor([plan], [bucket_job(plan, dg.in_process_executor)])
    for _ in range(_LIMIT_OF_TICKS):
        before = _cursor(instance)
        with dg.build_sensor_context(instance=instance, cursor=before, resources={"workshop": workshop}) as context:
            answer = sensor(context)
        if isinstance(answer, dg.SkipReason):
            raise BackendError(str(answer.skip_message), transient=True)
        if not isinstance(answer, dg.SensorResult):
            raise TypeError(f"the sensor answered with {answer!r}")
        for request in answer.dynamic_partitions_requests or ():
            instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        instance.daemon_cursor_storage.set_cursor_values({_CURSOR: answer.cursor or ""})
        if answer.cursor == before:
            return


def _cursor(instance: dg.DagsterInstance) -> str | None:
    return instance.daemon_cursor_storage.get_cursor_values({_CURSOR}).get(_CURSOR) or None
