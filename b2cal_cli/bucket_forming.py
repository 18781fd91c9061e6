"""Forming buckets from the command line: which runs wait, and closing a bucket by hand."""

import getpass
from collections.abc import Iterable

from b2cal_core.awaited_runs import all_runs_there
from b2cal_core.buckets import Bucket, Formation, close_late_by_hand, form_buckets
from b2cal_core.buckets import close_by_hand as close_waiting
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import CampaignStore
from b2cal_core.ranges import ExpRun
from resources.deployment import registry_address
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry


def waiting_runs(home: Home, campaign: Campaign, existing: Iterable[Bucket]) -> Formation:
    """What the registered runs add to the existing buckets: more buckets, runs that wait, and runs that came late."""
    registry = EmbeddedRunRegistry(registry_address(home))
    records = (record for record in registry.runs() if campaign.takes(record.run))
    return form_buckets(records, campaign.buckets, existing, all_there=all_runs_there(campaign, registry))


def close_by_hand(
    home: Home, campaign: Campaign, store: CampaignStore, *, last: ExpRun | None, label: str = ""
) -> tuple[Bucket, ...]:
    """Book the buckets that are full up to ``last``, and one with the runs that are left up to it.

    Args:
        home: whose registry has the runs.
        campaign: whose buckets are meant.
        store: where they are booked.
        last: last run of the last bucket; by default the last run there is.
        label: name of the last bucket.

    Raises:
        ConfigurationError: no run waits, or none before ``last``.
    """
    existing = store.buckets(campaign.name)
    records = EmbeddedRunRegistry(registry_address(home)).runs()
    taken = [r for r in records if campaign.takes(r.run) and (last is None or r.run <= last)]
    formation = form_buckets(taken, campaign.buckets, existing)
    buckets = [*formation.closed, *close_waiting(formation.waiting, campaign.buckets)]
    if not buckets:
        raise ConfigurationError(_nothing_to_close(campaign, existing, last))
    final = buckets.pop()
    # The last run given need not have been taken, as long as it is one of the bucket's last experiment.
    end = last if last is not None and last.exp == final.last.exp else final.last
    buckets.append(Bucket(final.first, end, label))
    return tuple(store.add_bucket(campaign.name, bucket, closed_by=getpass.getuser()) for bucket in buckets)


def close_late(home: Home, campaign: Campaign, store: CampaignStore) -> tuple[Bucket, ...]:
    """Book buckets of the runs that came after the buckets around them were closed: one for each gap between these.

    Raises:
        ConfigurationError: there is no such run.
    """
    existing = store.buckets(campaign.name)
    late = waiting_runs(home, campaign, existing).late
    buckets = close_late_by_hand(late, campaign.buckets, existing)
    if not buckets:
        raise ConfigurationError(f"no run of campaign {campaign.name} came too late; see b2cal bucket list")
    return tuple(store.add_bucket(campaign.name, bucket, closed_by=getpass.getuser()) for bucket in buckets)


def _nothing_to_close(campaign: Campaign, existing: tuple[Bucket, ...], last: ExpRun | None) -> str:
    after = f" after {existing[-1].last}" if existing else ""
    until = f" up to {last}" if last else ""
    return f"no run of campaign {campaign.name} waits for a bucket{after}{until}; see b2cal runs list"
