"""Which buckets something happened to since they were looked at last: some questions, however many buckets there are.

What is known is kept in memory, since another process is one that loaded the campaigns anew, and looks at everything.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import dagster as dg

from b2cal_assets.bulk_records import reported_since
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.local_offers import SourceTags
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket
from b2cal_core.campaign_states import CampaignState

ALL_AGAIN = timedelta(minutes=10)
"""After so long every bucket is looked at again: a waiver has ended, or a change was overlooked."""
_OVERLAP = timedelta(minutes=1)
"""Clocks of those who work may be behind by so much; who was seen in it before is no news."""
RESTS = timedelta(seconds=30)
"""A Dagster run that failed is news only then: what it died of, a database that went away, may be over. Source tags
are read again after so long."""
_PARTITION_TAG = "dagster/partition"
_FAILURE = dg.DagsterRunStatus.FAILURE
_FINISHED = (dg.DagsterRunStatus.SUCCESS, _FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True, slots=True)
class _Campaign:
    """What matters to every bucket of a campaign: its state, its buckets in order, the versions of imported tags."""

    state: CampaignState | None
    buckets: tuple[Bucket, ...]
    sources: Mapping[str, str]

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(bucket.key for bucket in self.buckets)


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen in one look round.

    Attributes:
        touched: campaign to the keys of its buckets that something happened to.
        event: the last of Dagster's events; ``logged``: the mark in the log of decisions.
        ended: Dagster runs that ended a short while before ``when``.
        campaigns: what matters to every bucket of them.
        all_at: when every bucket was looked at last.
        sources: source tag to its version, as read at ``sources_at``.
        left: names of buckets that are to be looked at the next time whatever happens.
        asked: names of buckets for which a Dagster run was asked for, and when; it may never have come to be.
    """

    touched: Mapping[str, frozenset[str]]
    event: int
    logged: str
    ended: frozenset[str]
    when: datetime
    campaigns: Mapping[str, _Campaign]
    all_at: datetime
    sources: Mapping[str, str]
    sources_at: datetime
    left: frozenset[str] = frozenset()
    asked: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """Campaign and bucket of each that is touched."""
        return frozenset(bucket_name(name, bucket) for name, keys in self.touched.items() for bucket in keys)


def _now() -> datetime:
    return datetime.now(UTC)


class Changes:
    """Looks round again and again; what a look has told is told again until it is kept.

    Args:
        plans: of the campaigns.
        clock: gives the time in UTC.
    """

    def __init__(self, plans: Sequence[CampaignPlan], *, clock: Callable[[], datetime] = _now) -> None:
        self._plans, self._clock = plans, clock
        self._before: Look | None = None

    def keep(self, look: Look, *, left: Iterable[str] = (), asked: Iterable[str] = ()) -> None:
        """What the look has told was dealt with.

        Args:
            look: the last one.
            left: names of the buckets that were not.
            asked: names of those for which a Dagster run was asked for.
        """
        self._before = replace(look, left=frozenset(left), asked={**look.asked, **dict.fromkeys(asked, look.when)})

    def look(self, workshop: Workshop, instance: dg.DagsterInstance, tags: SourceTags) -> Look:
        """The buckets that something happened to since the last look that was kept; all of them at first."""
        before, when = self._before, self._clock()
        states = workshop.campaigns.states()
        sources, sources_at = self._sources(tags, when)
        campaigns = {plan.name: _campaign(plan, workshop, states.get(plan.name), sources) for plan in self._plans}
        told, event = reported_since(instance, before.event if before else None)
        logged, mark = workshop.sign_offs.logged_since(before.logged if before else "")
        ended = _ended(instance, (before.when if before else when) - _OVERLAP, when)
        if before is None or when - before.all_at >= ALL_AGAIN:
            touched, all_at = {name: one.keys for name, one in campaigns.items()}, when
        else:
            worked = {bucket for run, bucket in ended.items() if run not in before.ended}
            happened = {bucket_name(key.path[0], bucket) for key, bucket in told} | {
                bucket_name(*one) for one in logged
            }
            happened |= {bucket_name(name, bucket) for name in campaigns for bucket in worked} | before.left
            happened |= {name for name, asked in before.asked.items() if asked <= when - RESTS}
            touched, all_at = _touched(campaigns, before.campaigns, happened), before.all_at
        waiting = {name: asked for name, asked in (before.asked if before else {}).items() if asked > when - RESTS}
        return Look(
            *(touched, event, mark, frozenset(ended), when, campaigns, all_at),
            sources=sources,
            sources_at=sources_at,
            asked=waiting,
        )

    def _sources(self, tags: SourceTags, when: datetime) -> tuple[Mapping[str, str], datetime]:
        """Source tags to their versions, and when these were read: seldom, since a server lists a whole tag for one."""
        before = self._before
        if before is not None and when - before.sources_at < RESTS:
            return before.sources, before.sources_at
        wanted = {source.tag for plan in self._plans for name in plan.imports for source in plan.sources(name)}
        return {tag: tags.version(tag) for tag in sorted(wanted)}, when


def _touched(
    campaigns: Mapping[str, _Campaign], before: Mapping[str, _Campaign], happened: Collection[str]
) -> dict[str, frozenset[str]]:
    """By campaign, the buckets that something happened to, and all of those to which something happened itself."""
    return {
        name: one.keys if one != before[name] else frozenset(_with_neighbours(name, one.buckets, happened))
        for name, one in campaigns.items()
    }


def bucket_name(campaign: str, bucket: str) -> str:
    """How the bucket of a campaign is called where there are several."""
    return f"{campaign}:{bucket}"


def _campaign(
    plan: CampaignPlan, workshop: Workshop, state: CampaignState | None, versions: Mapping[str, str]
) -> _Campaign:
    sources = {source.tag: versions[source.tag] for name in plan.imports for source in plan.sources(name)}
    return _Campaign(state, tuple(sorted(workshop.campaigns.buckets(plan.name))), sources)


def _ended(instance: dg.DagsterInstance, since: datetime, now: datetime) -> dict[str, str]:
    """Dagster run to the bucket that it worked, of those that ended since then and, if they failed, have rested."""
    records = instance.get_run_records(dg.RunsFilter(statuses=list(_FINISHED), updated_after=since))
    return {
        run.run_id: run.tags[_PARTITION_TAG]
        for run, ended in ((record.dagster_run, record.update_timestamp) for record in records)
        if _PARTITION_TAG in run.tags and (run.status is not _FAILURE or ended <= now - RESTS)
    }


def _with_neighbours(campaign: str, buckets: Sequence[Bucket], happened: Collection[str]) -> Iterator[str]:
    """Those it happened to, the ones that may take their data, and the next, which is not published before them."""
    for place, bucket in enumerate(buckets):
        if any(bucket_name(campaign, near.key) in happened for near in buckets[max(0, place - 1) : place + 2]):
            yield bucket.key
