"""From what is recorded of buckets, where their time went: the claims that ``b2cal_core.latency`` weighs. Reads only.

The registry says when runs came, the book when a bucket was closed and by whom, Dagster when its runs and their steps
began and ended and when jobs of a step waited, the log of decisions when people decided.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.execution.stats import StepEventStatus  # the type of a public answer

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key, offer_key, published_key, step_name
from b2cal_assets.bucket_records import CONTENT, EVIDENCE, LACKING, PUBLISHED_AT, VERDICT, moment_of
from b2cal_assets.campaign_assets import CAMPAIGN_TAG
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.observers import QUEUED
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import BookedBucket, Bucket, form_buckets
from b2cal_core.campaigns import Gate, RedoPolicy
from b2cal_core.data_shortage import ShortageChoice, joined_bucket
from b2cal_core.latency import BucketLatency, Claim, JudgedResult, Span, WaitsFor, open_decisions
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import SignOff, Verdict

SENSOR = "sensor:"
"""How the names of those begin that close buckets and are no people."""
_PARTITION_TAG = "dagster/partition"
_ENOUGH = 100
"""More attempts than that at one bucket, or at one of its assets, are not looked at."""


class CampaignLatencies:
    """The latencies of one campaign's buckets, as they stood when first asked; make a new one to look again.

    Args:
        now: until when what is not published waits; by default when this is made.
    """

    def __init__(
        self,
        plan: CampaignPlan,
        workshop: Workshop,
        *,
        instance: dg.DagsterInstance,
        now: datetime | None = None,
    ) -> None:
        self._plan, self._workshop, self._instance = plan, workshop, instance
        self._now = now or datetime.now(UTC)
        self._ways: dict[str, _Way] = {}

    def all(self) -> tuple[BucketLatency, ...]:
        """Those of all buckets, in order."""
        return tuple(self._latency(number) for number in range(len(self._book)))

    def of(self, bucket: Bucket) -> BucketLatency | None:
        """That of one bucket; ``None`` when it is not in the book."""
        numbers = (number for number, entry in enumerate(self._book) if entry.bucket.key == bucket.key)
        return next((self._latency(number) for number in numbers), None)

    def _latency(self, number: int) -> BucketLatency:
        entry, way = self._book[number], self._way(number)
        arrivals = self._workshop.runs.registrations(entry.bucket.iov).values()
        claims = [*self._closing(entry, arrivals), *way.claims, *self._decisions_over_earlier(number)]
        return BucketLatency.of(
            entry.bucket.key,
            arrivals,
            closed=entry.closed_at,
            end=way.published or self._now,
            is_published=way.published is not None,
            claims=claims,
        )

    def _closing(self, entry: BookedBucket, arrivals: Iterable[datetime]) -> Iterator[Claim]:
        """Whom a bucket with all its runs waited for: its manager, or the run after it, where no rule says it is full.

        Where it is full, the sensor is to close it, and that is the platform's.
        """
        last = max((arrival for arrival in arrivals if arrival <= entry.closed_at), default=entry.closed_at)
        span = Span(last, entry.closed_at)
        if not entry.closed_by.startswith(SENSOR):
            yield Claim(WaitsFor.people, span)
            return
        there = self._workshop.runs.runs(entry.bucket.iov, registered_by=entry.closed_at)
        if not form_buckets(there, self._plan.campaign.buckets).closed:
            yield Claim(WaitsFor.data, span)

    def _decisions_over_earlier(self, number: int) -> Iterator[Claim]:
        """What people had to decide over earlier buckets, until these were published: later ones wait for that too."""
        for earlier in range(number - 1, -1, -1):
            way = self._way(earlier)
            if way.published is not None and way.published <= self._book[number].closed_at:
                return
            until = Span(self._book[earlier].closed_at, max(self._book[earlier].closed_at, way.published or self._now))
            spans = (claim.span.within(until) for claim in way.claims if claim.what is WaitsFor.people)
            yield from (Claim(WaitsFor.people, span) for span in spans if span is not None)

    @cached_property
    def _book(self) -> tuple[BookedBucket, ...]:
        return self._workshop.campaigns.book(self._plan.name)

    @cached_property
    def _decisions(self) -> Mapping[str, Sequence[SignOff]]:
        """Bucket to the decisions over it, by time."""
        found: dict[str, list[SignOff]] = {}
        for decision in sorted(self._workshop.sign_offs.decisions(self._plan.name), key=lambda one: one.when):
            found.setdefault(decision.bucket, []).append(decision)
        return found

    def _way(self, number: int) -> "_Way":
        key = self._book[number].bucket.key
        if key not in self._ways:
            over, shortages = self._decisions.get(key, ()), tuple(self._shortages(number))
            self._ways[key] = _Way(self._plan, key, over, shortages, instance=self._instance, now=self._now)
        return self._ways[key]

    def _shortages(self, number: int) -> Iterator[Claim]:
        """What a calibration with too few data waited for: for somebody to choose, or for the next bucket."""
        choices = self._workshop.sign_offs.choices(self._plan.name, self._book[number].bucket.key)
        for name in self._plan.calibrations:
            own = [choice for choice in choices if choice.calibration == name]
            ends = [*(later.when for later in own[1:]), self._now]
            for choice, end in zip(own, ends, strict=False):
                what, until = self._wait_after(choice, number)
                if what is not None and choice.when < min(end, until):
                    yield Claim(what, Span(choice.when, min(end, until)))

    def _wait_after(self, choice: ShortageChoice, number: int) -> tuple[WaitsFor | None, datetime]:
        """What is waited for after a choice, and until when if nothing else is chosen."""
        closings = {entry.bucket: entry.closed_at for entry in self._book}
        other = joined_bucket(choice.remedy, self._book[number].bucket, closings)
        if choice.remedy is Remedy.extend:
            return WaitsFor.data, self._now if other is None else closings[other]
        asks = choice.remedy is Remedy.ask or (choice.remedy is Remedy.merge and other is None)
        return WaitsFor.people if asks else None, self._now


class _Way:
    """What is recorded of one bucket."""

    def __init__(
        self,
        plan: CampaignPlan,
        bucket: str,
        decisions: Sequence[SignOff],
        shortages: Sequence[Claim],
        *,
        instance: dg.DagsterInstance,
        now: datetime,
    ) -> None:
        self._plan, self._bucket, self._decisions, self._now = plan, bucket, decisions, now
        self._instance, self._shortages = instance, shortages

    @cached_property
    def published(self) -> datetime | None:
        """When it was published first."""
        made = next(self._made(published_key(self._plan.name), most=1), None)
        if made is None:
            return None
        at, metadata = made
        return moment_of(metadata[PUBLISHED_AT]) if PUBLISHED_AT in metadata else at

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """What its time is claimed by."""
        people = (*self._open_decisions(), *self._lacking_imports())
        return (*self._dagster_runs(), *self._steps(), *people, *self._shortages)

    @cached_property
    def _records(self) -> Sequence[dg.RunRecord]:
        """The Dagster runs over the bucket, newest first."""
        found = self._instance.get_run_records(dg.RunsFilter(tags={_PARTITION_TAG: self._bucket}), limit=_ENOUGH)
        return [record for record in found if self._belongs(record.dagster_run)]

    def _belongs(self, run: dg.DagsterRun) -> bool:
        """Buckets of two campaigns may have the same key."""
        own = any(key.path[0] == self._plan.name for key in run.asset_selection or ())
        return own or run.tags.get(CAMPAIGN_TAG) == self._plan.name

    def _dagster_runs(self) -> Iterator[Claim]:
        """While a Dagster run is asked for or at work, nobody else is; after a person ended one, a person goes on."""
        later = self._now
        for record in self._records:
            asked = record.create_timestamp.astimezone(UTC)
            ended = self._now if record.end_time is None else _moment(record.end_time)
            yield Claim(WaitsFor.platform, Span(asked, max(asked, ended)))
            if record.dagster_run.status is dg.DagsterRunStatus.CANCELED and ended < later:
                yield Claim(WaitsFor.people, Span(ended, later))
            later = asked

    def _steps(self) -> Iterator[Claim]:
        """What steps computed, when their jobs waited, and what failed and was left to people."""
        queued = self._queued()
        yield from (Claim(WaitsFor.queue, span) for spans in queued.values() for span in spans)
        goes_on: dict[str, datetime] = {}
        for record in self._records:
            for step in self._instance.get_run_step_stats(record.dagster_run.run_id):
                if step.start_time is None:
                    continue
                ended = step.end_time or self._last_sign_of(step.step_key, record)
                span = Span(_moment(step.start_time), max(_moment(step.start_time), _moment(ended)))
                yield from (Claim(WaitsFor.machine, part) for part in span.without(queued.get(step.step_key, ())))
                again = goes_on.get(step.step_key, self._now)
                if step.status is StepEventStatus.FAILURE and span.end < again:
                    yield Claim(WaitsFor.people, Span(span.end, again))
                goes_on[step.step_key] = span.start

    def _last_sign_of(self, step: str, record: dg.RunRecord) -> float:
        """When a step that did not end was heard of last: now, or before its process died."""
        if not record.dagster_run.is_finished:
            return self._now.timestamp()
        entries = self._instance.all_logs(record.dagster_run.run_id)
        return max((entry.timestamp for entry in entries if entry.step_key == step), default=0.0)

    def _queued(self) -> Mapping[str, Sequence[Span]]:
        """Step to the spans in which its jobs waited and none ran."""
        names = self._plan.calibrations
        keys = [calibration_key(self._plan.name, name, Part.collector_output) for name in names]
        return {
            step_name(key): [
                Span(_moment(start), _moment(end))
                for _, metadata in self._made(key)
                for start, end in (metadata[QUEUED].value if QUEUED in metadata else ())
            ]
            for key in (*keys, *([cdst_key(self._plan.name)] if self._plan.cdst_stage else []))
        }

    def _lacking_imports(self) -> Iterator[Claim]:
        """While source tags lack local calibrations, those who fill them are waited for."""
        for name in self._plan.imports:
            offers = list(self._made(offer_key(self._plan.name, name)))
            ends = [*(at for at, _ in offers[1:]), self._now]
            for (at, metadata), end in zip(offers, ends, strict=False):
                if metadata[LACKING].value and at < end:
                    yield Claim(WaitsFor.people, Span(at, end))

    def _open_decisions(self) -> Iterator[Claim]:
        by_hand = self._plan.campaign.gates.redo is RedoPolicy.ask
        for name in self._plan.calibrations:
            own = [decision for decision in self._decisions if decision.calibration == name]
            for result in self._results(name):
                for span in open_decisions(result, own, redone_by_hand=by_hand, now=self._now):
                    yield Claim(WaitsFor.people, span)

    def _results(self, calibration: str) -> Iterator[JudgedResult]:
        payloads, validations = (
            list(self._made(calibration_key(self._plan.name, calibration, part)))
            for part in (Part.payloads, Part.validation)
        )
        made = [(at, str(metadata[CONTENT].value)) for at, metadata in payloads]
        for number, (judged, metadata) in enumerate(validations):
            evidence, verdict = str(metadata[EVIDENCE].value), Verdict(metadata[VERDICT].value)
            following = [at for at, _ in validations[number + 1 : number + 2]]
            following += [at for at, content in made if at > judged and content != evidence]
            yield JudgedResult(judged, evidence, self._is_held(verdict), min(following, default=None))

    def _is_held(self, verdict: Verdict) -> bool:
        """Whether a result with this verdict stops anything until somebody, or the rule, has decided."""
        gates = self._plan.campaign.gates
        return verdict is Verdict.fail or Gate.sign_off in {gates.downstream, gates.cdst, gates.publish}

    def _made(self, key: dg.AssetKey, *, most: int = _ENOUGH) -> Iterator[tuple[datetime, Mapping[str, Any]]]:
        """When the asset was made, the first time first, and what was recorded with it."""
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[self._bucket])
        for record in self._instance.fetch_materializations(wanted, limit=most, ascending=True).records:
            made = record.asset_materialization
            yield _moment(record.timestamp), {} if made is None else made.metadata


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
