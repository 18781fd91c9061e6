"""What the benchmark of automation calls, each in a process of its own: the same buckets, asked in two ways.

Buckets are only recorded, by the events and decisions that their work leaves; nothing is calibrated. Gates are looked
at by the sensor that the platform has, and by conditions on every asset, of which none has one in the platform.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from intake_work import instance_of, workshop_of

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key
from b2cal_assets.bucket_inputs import BucketRuns, report_of_runs
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_records import CONTENT, EVIDENCE, MADE_FROM, NAMES, VERDICT
from b2cal_assets.bulk_events import report_with_tags
from b2cal_assets.campaign_assets import bucket_job, bucket_runs_spec, campaign_assets, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.instance_settings import prepare_dagster_home
from b2cal_assets.partitions import bucket_partitions_name
from b2cal_assets.sign_offs import report_sign_off
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket
from b2cal_core.ranges import ExpRun
from b2cal_core.verdicts import Decision, SignOff, SignOffRule
from resources.campaigns.files import FileCampaignStore
from resources.home import Home
from sensors.gates import gates_sensor
from sensors.new_runs import new_runs_sensor

CAMPAIGN, EXP, RUNS_OF_A_BUCKET = "prompt", 12, 10
NOTHING_HAPPENED = "nothing has happened to any bucket"
_GATED = {Part.collector_output, Part.sign_off, "cdst", "published"}
"""Last words of the assets that have a gate of their own; what else a step makes follows those."""


def fill(home: str, buckets: int, waiting: int) -> int:
    """Record finished buckets, and after them some whose raw stage waits for its sign-offs; how many events that is."""
    plan, workshop = _plan(home), workshop_of(home)
    prepare_dagster_home(Home(Path(home)).dagster_home)
    events = 0
    with instance_of(home) as instance:
        for number in range(buckets):
            bucket = _bucket(number)
            workshop.campaigns.add_bucket(plan.name, bucket, closed_by="benchmark")
            instance.add_dynamic_partitions(bucket_partitions_name(plan.name), [bucket.key])
            made = list(_order(plan)) if number < buckets - waiting else list(_before_cdst(plan))
            report = [*report_of_runs(plan, bucket, BucketRuns(())), *(_event(plan, bucket, key) for key in made)]
            report_with_tags(instance, report)
            tags = run_tags(plan) | {"dagster/partition": bucket.key}
            instance.create_run_for_job(_nothing(), tags=tags, status=dg.DagsterRunStatus.SUCCESS)
            events += len(report)
    return events


def _bucket(number: int) -> Bucket:
    first = RUNS_OF_A_BUCKET * number + 1
    return Bucket(ExpRun(EXP, first), ExpRun(EXP, first + RUNS_OF_A_BUCKET - 1))


def _order(plan: CampaignPlan) -> Iterator[dg.AssetKey]:
    """All assets of a bucket, each after what it depends on."""
    late = {calibration_key(plan.name, name, part) for name in plan.cdst_stage for part in Part}
    *calibrations, cdst, published = plan.asset_keys()
    yield from (key for key in calibrations if key not in late)
    yield cdst
    yield from (key for key in calibrations if key in late)
    yield published


def _before_cdst(plan: CampaignPlan) -> Iterator[dg.AssetKey]:
    """What can be made before anybody decides."""
    for key in _order(plan):
        if key == cdst_key(plan.name):
            return
        if key.path[-1] != Part.sign_off:
            yield key


def _event(plan: CampaignPlan, bucket: Bucket, key: dg.AssetKey) -> dg.AssetMaterialization:
    """What is recorded of an asset that was made, as far as gates read it."""
    content: dict[str, Any] = {}
    if key.path[-1] == Part.payloads:
        name = plan.calibration_of(key)
        before = {other: _content(other, bucket) for other in plan.visible(name)}
        content = {
            CONTENT: _content(name, bucket),
            NAMES: sorted(plan.settings(name).produced_payloads),
            MADE_FROM: before,
        }
    if key.path[-1] == Part.validation:
        content = {EVIDENCE: _content(plan.calibration_of(key), bucket), VERDICT: "pass"}
    return dg.AssetMaterialization(key, partition=bucket.key, metadata=content)


def _content(calibration: str, bucket: Bucket) -> str:
    return f"payloads of {calibration} in {bucket.key}"


Tick = Callable[[], tuple[int, bool]]
"""Returns how many Dagster runs it asks for, and whether it looked at any bucket."""


def gates(home: str, buckets: int, waiting: int, ticks: int) -> dict[str, Any]:
    """Ticks of the gates sensor: those that new buckets take, those without news, one after sign-offs."""
    plan, workshop = _plan(home), workshop_of(home)
    sensor = gates_sensor([plan], [bucket_job(plan, dg.in_process_executor)])
    with instance_of(home) as instance:

        def tick() -> tuple[int, bool]:
            with dg.build_sensor_context(instance=instance, resources={"workshop": workshop}) as context:
                answer = sensor(context)
            if not isinstance(answer, dg.SensorResult):
                raise TypeError(f"the sensor could not look: {answer}")
            has_looked = answer.skip_reason is None or answer.skip_reason.skip_message != NOTHING_HAPPENED
            return len(answer.run_requests or ()), has_looked

        return _measured(tick, home, buckets, waiting, ticks)


def conditions(home: str, buckets: int, waiting: int, ticks: int) -> dict[str, Any]:
    """Evaluations of conditions on every asset, as ``gates``; conditions are about what comes once they are there."""
    plan, workshop = _plan(home), workshop_of(home)
    with instance_of(home) as instance:
        evaluations = _Evaluations(plan, workshop, instance)
        return _measured(lambda: (len(evaluations.next()), False), home, buckets, waiting, ticks)


def _measured(tick: Tick, home: str, buckets: int, waiting: int, ticks: int) -> dict[str, Any]:
    tick()
    fill(home, buckets, waiting)
    first = _timed(tick, until_quiet=True)
    steady = [_timed(tick) for _ in range(ticks)]
    _sign_off(home, _bucket(buckets - waiting))
    return {"first": first, "steady": steady, "after": _timed(tick)}


def _timed(tick: Tick, *, until_quiet: bool = False) -> dict[str, float]:
    before, own = time.perf_counter(), time.process_time()
    asked, has_looked = tick()
    while until_quiet and has_looked:
        more, has_looked = tick()
        asked += more
    return {"seconds": time.perf_counter() - before, "cpu": time.process_time() - own, "runs": asked}


def _sign_off(home: str, bucket: Bucket) -> None:
    """Accept the raw stage of a bucket, as the command does."""
    plan, workshop = _plan(home), workshop_of(home)
    with instance_of(home) as instance:
        for name in plan.calibrations:
            if name not in plan.cdst_stage:
                signed = _accepted(plan, bucket, name, "ada")
                workshop.sign_offs.record(signed)
                report_sign_off(instance, signed)


def _accepted(plan: CampaignPlan, bucket: Bucket, calibration: str, author: str) -> SignOff:
    subject = (plan.name, bucket.key, calibration, Decision.accepted)
    return SignOff(*subject, author, "looks fine", _content(calibration, bucket), datetime.now(UTC))


@dataclass
class _Evaluations:
    """Ticks of conditions on every asset of a campaign, in that sensor of Dagster's which evaluates conditions of ours.

    Only what has a gate has it in its condition: what else its step makes follows it in the same Dagster run.
    """

    plan: CampaignPlan
    workshop: Workshop
    instance: dg.DagsterInstance
    _ledgers: dict[str, BucketLedger] = field(default_factory=dict)
    _buckets: tuple[Bucket, ...] = ()
    _cursor: str | None = None

    def __post_init__(self) -> None:
        logging.disable(logging.INFO)  # a line for each asset that is asked for would fill the pipe that nobody empties
        eager = dg.AutomationCondition.eager()
        gated = eager & OpenGate(self.is_open)
        assets = [
            asset.map_asset_specs(
                lambda spec: spec.replace_attributes(
                    automation_condition=gated if spec.key.path[-1] in _GATED else eager
                )
            )
            for asset in campaign_assets(self.plan)
        ]
        self._sensor = dg.AutomationConditionSensorDefinition(
            "conditions", target=dg.AssetSelection.all(), use_user_code_server=True, emit_backfills=False
        )
        definitions = dg.Definitions(
            [*assets, bucket_runs_spec(self.plan)], sensors=[self._sensor], resources={"workshop": self.workshop}
        )
        self._repository = definitions.get_repository_def()

    def next(self) -> dict[str, set[dg.AssetKey]]:
        """The assets that a tick asks for, by bucket: what one Dagster run would make."""
        self._ledgers.clear()
        self._buckets = self.workshop.campaigns.buckets(self.plan.name)
        with dg.build_sensor_context(
            instance=self.instance, cursor=self._cursor, repository_def=self._repository
        ) as context:
            found = self._sensor.evaluate_tick(context)
        self._cursor = found.cursor
        return {str(request.partition_key): set(request.asset_selection or ()) for request in found.run_requests or ()}

    def is_open(self, key: dg.AssetKey, bucket: str) -> bool:
        """Whether the gate is open; what is known of a bucket is read once in a tick, as the sensor does."""
        if bucket not in self._ledgers:
            ledger = BucketLedger(
                self.plan, Bucket.from_key(bucket), instance=self.instance, sign_offs=self.workshop.sign_offs
            )
            ledger.read_all()
            self._ledgers[bucket] = ledger
        ledger = self._ledgers[bucket]
        if key.path[-1] == Part.sign_off and ledger.verdict(self.plan.calibration_of(key)) is None:
            return True  # the step that judges signs off by rule, too
        return not ledger.reasons_against(key, self._buckets)


class OpenGate(dg.AutomationCondition[dg.AssetKey]):
    """Whether the gate of an asset is open in a bucket."""

    def __init__(self, is_open: Callable[[dg.AssetKey, str], bool]) -> None:
        self._is_open = is_open

    @property
    def name(self) -> str:
        """How Dagster calls it."""
        return "gate_open"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Those of the candidates whose gate is open."""
        keys = context.candidate_subset.expensively_compute_partition_keys()
        opened = {bucket for bucket in keys if self._is_open(context.key, bucket)}
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection_with_partition_keys(opened))


def runs_of_a_bucket(home: str) -> dict[str, Any]:
    """How many Dagster runs either way starts for one bucket that nobody has to decide over."""
    plan, workshop, bucket = _plan(home, SignOffRule.none_fail), workshop_of(home), _bucket(0)
    prepare_dagster_home(Home(Path(home)).dagster_home)
    with instance_of(home) as instance:
        evaluations = _Evaluations(plan, workshop, instance)
        evaluations.next()
        workshop.campaigns.add_bucket(plan.name, bucket, closed_by="benchmark")
        instance.add_dynamic_partitions(bucket_partitions_name(plan.name), [bucket.key])
        sensor = new_runs_sensor([plan], [bucket_job(plan, dg.in_process_executor)])
        with dg.build_sensor_context(instance=instance, resources={"workshop": workshop}) as context:
            asked = len(sensor(context).run_requests)
        made: list[int] = []
        own = time.process_time()
        while found := evaluations.next():
            keys = [key for key in _order(plan) if key in found[bucket.key]]
            for key in (key for key in keys if key.path[-1] == Part.sign_off):
                workshop.sign_offs.record(_accepted(plan, bucket, plan.calibration_of(key), "rule:none_fail"))
            report_with_tags(instance, [_event(plan, bucket, key) for key in keys])
            made.append(len(keys))
        cpu = time.process_time() - own
    _expect(sum(made), len(plan.asset_keys()), "assets")
    return {"sensor": asked, "conditions": len(made), "assets": sum(made), "cpu": cpu}


def _expect(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise ValueError(f"{found} {what} where {expected} are expected; the figures would mean nothing")


def _plan(home: str, rule: SignOffRule = SignOffRule.manual) -> CampaignPlan:
    plan = CampaignPlan.read(FileCampaignStore(Home(Path(home))), CAMPAIGN)
    gates_ = plan.campaign.gates.model_copy(update={"auto_sign_off": rule})
    return replace(plan, campaign=plan.campaign.model_copy(update={"gates": gates_}))


@cache
def _nothing() -> dg.JobDefinition:
    """Stands for the job that has worked a bucket."""
    return dg.GraphDefinition(name=f"{CAMPAIGN}_bucket", node_defs=[]).to_job()
