"""After a publish, the tables behind ``b2cal impact`` are brought up to date, so that nobody waits for them.

Nothing waits for this sensor, and what it makes may be removed: a question makes it again.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from threading import Lock

import dagster as dg

from b2cal_assets.asset_keys import published_key
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.workshop import Workshop
from b2cal_core.errors import BackendError
from b2cal_core.ports import ConditionsDB

_ONE_AT_A_TIME = Lock()
"""Dagster gives up on a tick after a minute, though it goes on: the first table of a large tag takes longer."""


def impact_tables_sensor(
    plans: Sequence[CampaignPlan], grow: Callable[[ConditionsDB, str], None], *, seconds: int = 60
) -> dg.SensorDefinition:
    """The sensor over all campaigns. Its cursor is when each was published last, as far as its table has it.

    Args:
        plans: of the campaigns.
        grow: brings the table of a global tag up to date.
        seconds: between its ticks.
    """

    @dg.sensor(
        name="impact_tables",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps ready, after each publish, what b2cal impact answers from.",
    )
    def impact_tables(
        context: dg.SensorEvaluationContext, workshop: dg.ResourceParam[Workshop]
    ) -> dg.SensorResult | dg.SkipReason:
        if not _ONE_AT_A_TIME.acquire(blocking=False):
            return dg.SkipReason("the tick before is still at work on a large tag")
        had: dict[str, float] = json.loads(context.cursor or "{}")
        said = "nothing was published since"
        try:
            for plan in _published_since(plans, had, context.instance):
                grow(workshop.conditions, plan.campaign.target_tag)
                said = "the tables have what was published"
        except BackendError as error:
            said = f"tables were not brought up to date, which the next tick does again: {error}"
        finally:
            _ONE_AT_A_TIME.release()
        return dg.SensorResult(skip_reason=said, cursor=json.dumps(had))

    return impact_tables


def _published_since(
    plans: Sequence[CampaignPlan], had: dict[str, float], instance: dg.DagsterInstance
) -> Iterator[CampaignPlan]:
    """The campaigns that published after what ``had`` says, which is told so once their turn is over."""
    keys = {plan.name: published_key(plan.name) for plan in plans}
    last = instance.get_latest_materialization_events(list(keys.values()))
    for plan in plans:
        entry = last.get(keys[plan.name])
        if entry is not None and had.get(plan.name) != entry.timestamp:
            yield plan
            had[plan.name] = entry.timestamp
