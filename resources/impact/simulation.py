"""All simulated samples: those that people noted, and the runs for which a campaign published constants for simulation.

The latter are derived whenever they are asked for, so that nobody has to note them, and a publish that is taken back
takes its sample along.
"""

from collections.abc import Iterator

from b2cal_core.campaigns import Campaign, CampaignKind
from b2cal_core.errors import ConfigurationError
from b2cal_core.impact import Sample
from b2cal_core.ports import CampaignStore, ConditionsDB
from resources.conditions.publish_log import PublishLog
from resources.deployment import registry_address
from resources.home import Home
from resources.impact.samples import EmbeddedSamples


def all_samples(home: Home, store: CampaignStore, conditions: ConditionsDB) -> tuple[Sample, ...]:
    """All of them, by name; one that a person noted stands before one of a bucket that has its name.

    Campaigns that cannot be read have none.
    """
    log = PublishLog(conditions)
    derived = {sample.name: sample for campaign in _campaigns(store) for sample in _published(campaign, store, log)}
    noted = {sample.name: sample for sample in EmbeddedSamples(registry_address(home)).samples()}
    return tuple(sample for _, sample in sorted((derived | noted).items()))


def _campaigns(store: CampaignStore) -> Iterator[Campaign]:
    for name in store.names():
        try:
            yield store.campaign(name)
        except ConfigurationError:
            continue


def _published(campaign: Campaign, store: CampaignStore, log: PublishLog) -> Iterator[Sample]:
    """One for each published bucket of a campaign for simulation, whose runs are simulated with its target tag."""
    if campaign.kind is not CampaignKind.run_dependent_mc:
        return
    records = [record for record in log.plans(campaign.target_tag).values() if record.undone_by is None]
    staged = {document.staging for record in records if (document := record.document) is not None}
    for bucket in store.buckets(campaign.name):
        if campaign.staging_tag_of(bucket) in staged:
            yield Sample(f"{campaign.name}_{bucket.key}", campaign.target_tag, bucket.iov)
