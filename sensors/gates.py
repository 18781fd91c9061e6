"""When a gate opens: what waited behind it, in buckets that were worked before, is started, once.

A step that failed by its own fault is left to people, and so is a bucket whose last run a person ended. While nothing
is at work on a bucket, its assets show why they are not made.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import dagster as dg

from b2cal_assets.asset_specs import inputs_of
from b2cal_assets.bucket_cells import Activity, cells_of
from b2cal_assets.bucket_ledger import BucketLedger, finished_buckets, started_buckets
from b2cal_assets.campaign_assets import AssetJob, bucket_job_name, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import Shown, show_cells
from b2cal_assets.local_offers import SourceTags, report_offers
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket
from b2cal_core.campaign_states import CampaignChange
from b2cal_core.cells import Cell
from b2cal_core.errors import BackendError
from sensors.changes import Changes, Look, bucket_name
from sensors.dagster_runs import activity, begun_buckets, runs_of_bucket
from sensors.resting import rest_of

SITUATION_TAG = "b2cal/situation"
ATTEMPTS = 3
"""How often the same steps are started over the same payloads; after that people must look."""
LOOK_SECONDS = 30.0
"""A tick has a minute; the buckets that are left when this has passed are looked at by the next one."""
_SHOWN = "b2cal_gates_shown_{}"
"""Under which name Dagster keeps what the page of a bucket shows; a cursor would be written with every tick."""
SECONDS = 4
"""Between ticks. Dagster looks every five seconds which are due; who asks for five is late every now and then."""


@dataclass(frozen=True)
class OpenBucket:
    """A bucket that is not finished, with the Dagster runs on it, newest first; ``buckets`` are all of the campaign."""

    ledger: BucketLedger
    buckets: Sequence[Bucket]
    runs: Sequence[dg.DagsterRun]
    instance: dg.DagsterInstance

    @cached_property
    def activity(self) -> Activity:
        """What the Dagster runs do and did; read when it is asked for, since that costs as much as all else."""
        return activity(self.instance, self.runs)

    @property
    def name(self) -> str:
        """Campaign and bucket."""
        return bucket_name(self.ledger.plan.name, self.ledger.bucket.key)

    @property
    def is_idle(self) -> bool:
        """Whether no Dagster run is at work on it, or waits to be."""
        return all(run.is_finished for run in self.runs)

    @property
    def was_ended(self) -> bool:
        """Whether a person ended the last Dagster run."""
        return bool(self.runs) and self.runs[0].status is dg.DagsterRunStatus.CANCELED

    def attempts(self, situation: str) -> int:
        """How many Dagster runs were started in this situation."""
        return sum(run.tags.get(SITUATION_TAG) == situation for run in self.runs)


def gates_sensor(
    plans: Sequence[CampaignPlan], jobs: Sequence[AssetJob], *, seconds: int = SECONDS
) -> dg.SensorDefinition:
    """The sensor over all campaigns; ``seconds`` lie between its ticks.

    A tick looks at the buckets that something happened to; where nothing has happened, at none.
    """
    changes = Changes(plans)

    @dg.sensor(
        name="gates",
        jobs=list(jobs),
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts what waited for a sign-off or for an earlier bucket, resumes what was killed, and shows "
        "why the rest is not made.",
    )
    def gates(
        context: dg.SensorEvaluationContext, workshop: dg.ResourceParam[Workshop]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            look = changes.look(workshop, context.instance, tags := SourceTags(workshop.conditions))
            if not look.names:
                changes.keep(look)
                return dg.SensorResult(skip_reason="nothing has happened to any bucket")
            done = _Round(workshop, context.instance, tags, look)
            for plan in plans:
                done.look_at(plan)
            done.keep_shown()
        except BackendError as error:
            return dg.SkipReason(f"gates could not be looked at, which the next tick does again: {error}")
        changes.keep(look, left=look.names - done.looked_at, asked=done.requests)
        reason = None if done.requests else "no gate has opened"
        return dg.SensorResult(run_requests=list(done.requests.values()), skip_reason=reason)

    return gates


class _Round:
    """One look at the buckets that something happened to, as long as a tick may take.

    Attributes:
        looked_at: names of the buckets that it came to.
        requests: name to the Dagster run that is asked for.
    """

    def __init__(self, workshop: Workshop, instance: dg.DagsterInstance, tags: SourceTags, look: Look) -> None:
        self._workshop, self._instance, self._tags, self._look = workshop, instance, tags, look
        self._end = time.monotonic() + LOOK_SECONDS
        self.looked_at: set[str] = set()
        self.requests: dict[str, dg.RunRequest] = {}
        self._before = _read_shown(instance, look.names)
        self._shown = dict(self._before)

    def look_at(self, plan: CampaignPlan) -> None:
        """Look at the buckets of a campaign."""
        rest = rest_of(self._workshop.campaigns, plan.name)
        for bucket in self._open_buckets(plan):
            request = _request(bucket) if bucket.is_idle and rest is None else None
            if request is not None:
                self.requests[bucket.name] = request
            if bucket.is_idle:
                shown = self._before.get(bucket.name, {})
                self._shown[bucket.name] = show_cells(
                    self._instance, bucket.ledger, cells_with_rest(bucket, rest), shown=shown
                )

    def keep_shown(self) -> None:
        """Remember what the pages show, as far as that is news."""
        news = {name: shown for name, shown in self._shown.items() if shown != self._before.get(name, {})}
        if news:
            kept = {_SHOWN.format(name): json.dumps(shown) for name, shown in news.items()}
            self._instance.daemon_cursor_storage.set_cursor_values(kept)

    def _open_buckets(self, plan: CampaignPlan) -> Iterator[OpenBucket]:
        """Those to look at that were worked and are not finished."""
        touched = self._look.touched[plan.name]
        if not touched:
            return
        started, complete = started_buckets(plan, self._instance), finished_buckets(plan, self._instance)
        buckets = sorted(self._workshop.campaigns.buckets(plan.name))
        unfinished = touched - complete
        begun = started | begun_buckets(self._instance, unfinished)  # else of the sensor that found its runs
        for bucket in (one for one in buckets if one.key in touched):
            if time.monotonic() >= self._end:
                return
            name, at_work = bucket_name(plan.name, bucket.key), bucket.key in unfinished & begun
            runs = runs_of_bucket(self._instance, plan, bucket.key) if at_work else []
            if at_work and (runs or bucket.key in started):  # not only a bucket of that name in another campaign
                yield OpenBucket(self._ledger(plan, bucket), buckets, runs, self._instance)
            else:
                self._shown[name] = {}
            self.looked_at.add(name)

    def _ledger(self, plan: CampaignPlan, bucket: Bucket) -> BucketLedger:
        """What is recorded of the bucket, what source tags have for it included."""
        ledger = BucketLedger(plan, bucket, instance=self._instance, sign_offs=self._workshop.sign_offs)
        ledger.read_all()
        if report_offers(ledger, self._tags, self._instance):
            ledger.read_all()
        return ledger


def _read_shown(instance: dg.DagsterInstance, names: Iterable[str]) -> dict[str, Shown]:
    """Name to what the page of a bucket shows, as it was kept last."""
    keys = {_SHOWN.format(name): name for name in names}
    kept = instance.daemon_cursor_storage.get_cursor_values(set(keys))
    return {keys[key]: json.loads(text) for key, text in kept.items()}


def cells_with_rest(bucket: OpenBucket, rest: CampaignChange | None) -> tuple[Cell, ...]:
    """One cell per asset of the bucket; ``rest`` is the change by which people paused or archived the campaign."""
    held = _why_held(bucket, rest) if bucket.is_idle else ()
    return cells_of(bucket.ledger, bucket.buckets, replace(bucket.activity, held=held))


def _why_held(bucket: OpenBucket, rest: CampaignChange | None) -> tuple[str, ...]:
    """Why no Dagster run is asked for of a bucket that nothing is at work on, whatever may be made."""
    name = bucket.ledger.plan.name
    start, reasons = f"b2cal bucket run {name} {bucket.ledger.bucket.key}", []
    if rest is not None:
        resume = f'b2cal campaign resume {name} --reason "…"'
        reasons.append(f"campaign {name} is {rest.state.value} by {rest.author} ({rest.reason}): {resume}")
    if bucket.was_ended:
        reasons.append(f"a person ended the bucket's last Dagster run, after which the service starts none: {start}")
    elif _is_given_up(bucket):
        reasons.append(f"the service has given up after {ATTEMPTS} attempts; look why they ended, then: {start}")
    return tuple(reasons)


def _is_given_up(bucket: OpenBucket) -> bool:
    """Whether what may be made now was tried too often; worked out only where anything was."""
    tried = {run.tags[SITUATION_TAG] for run in bucket.runs if SITUATION_TAG in run.tags}
    given_up = {situation for situation in tried if bucket.attempts(situation) >= ATTEMPTS}
    return bool(given_up) and _situation(_opened(bucket)[0], bucket.ledger) in given_up


def _opened(bucket: OpenBucket) -> tuple[list[dg.AssetKey], list[dg.AssetKey]]:
    """What may be made now, and all that the service may make sooner or later."""
    ledger = bucket.ledger
    lacking = [key for key in ledger.missing() if not ledger.is_left_to_people(key)]
    candidates = [key for key in lacking if not bucket.activity.failure(ledger, key)]
    return startable(candidates, ledger=ledger, buckets=bucket.buckets), candidates


def _request(bucket: OpenBucket) -> dg.RunRequest | None:
    """The Dagster run that makes what may be made now, if there is anything."""
    ledger, plan = bucket.ledger, bucket.ledger.plan
    if bucket.was_ended:
        return None
    opened, candidates = _opened(bucket)
    if not opened:
        return None
    situation = _situation(opened, ledger)
    attempts = bucket.attempts(situation)
    if attempts >= ATTEMPTS:
        return None
    return dg.RunRequest(
        run_key=f"{bucket.name}:{situation}:{attempts}",
        job_name=bucket_job_name(plan.name),
        partition_key=ledger.bucket.key,
        asset_selection=with_followers(opened, candidates, ledger=ledger),
        tags=run_tags(plan) | {SITUATION_TAG: situation},
    )


def startable(missing: Sequence[dg.AssetKey], *, ledger: BucketLedger, buckets: Sequence[Bucket]) -> list[dg.AssetKey]:
    """The missing assets whose inputs are made and whose gate is open."""
    return [
        key
        for key in missing
        if all(ledger.is_made(needed) for needed in inputs_of(ledger.plan, key))
        and not ledger.reasons_against(key, buckets)
    ]


def with_followers(
    opened: Sequence[dg.AssetKey], missing: Sequence[dg.AssetKey], *, ledger: BucketLedger
) -> list[dg.AssetKey]:
    """What can be started, and what of the missing can follow in the same Dagster run, if its gate then lets it."""
    chosen = dict.fromkeys(opened)
    todo = [key for key in missing if key not in chosen]
    while True:
        following = [k for k in todo if all(n in chosen or ledger.is_made(n) for n in inputs_of(ledger.plan, k))]
        if not following:
            return list(chosen)
        chosen |= dict.fromkeys(following)
        todo = [key for key in todo if key not in chosen]


def _situation(opened: Sequence[dg.AssetKey], ledger: BucketLedger) -> str:
    """A hash of what may start now and over which payloads, so that one situation is not tried for ever."""
    names = ledger.plan.calibrations
    made = [
        (name, payloads.content, ledger.redo(name).to_json())
        for name in names
        if (payloads := ledger.payloads(name)) is not None
    ]
    offers = [(name, offer.content) for name in ledger.plan.imports if (offer := ledger.offer(name)) is not None]
    content = [[key.to_user_string() for key in opened], made, *([offers] if offers else [])]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
