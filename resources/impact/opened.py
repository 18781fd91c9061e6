"""The search over everything an installation has: its campaigns, its tags, its cDST files and its samples."""

from collections.abc import Callable
from pathlib import Path

from b2cal_core.campaign_states import CampaignState
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import CatalogueError, ConfigurationError
from b2cal_core.impact import steps_of
from b2cal_core.payloads import TagState
from b2cal_core.ports import CampaignStore, ConditionsDB
from resources.home import Home
from resources.impact.cdst_cells import cdst_cells
from resources.impact.lineages import Lineage
from resources.impact.search import ImpactSearch
from resources.impact.simulation import all_samples
from resources.impact.tag_cells import TagCells

_MANIFEST = "manifest.json"
_UNPUBLISHED = frozenset({TagState.OPEN, TagState.TESTING})


def open_search(
    home: Home, store: CampaignStore, conditions: ConditionsDB, *, left_out: Callable[[str], None]
) -> ImpactSearch:
    """The search over all campaigns that can be read, the archived ones too, since what they made is still used.

    ``left_out`` is told a sentence about each that cannot.
    """
    lineages = []
    unpublished = frozenset(tag.name for tag in conditions.list_tags() if tag.state in _UNPUBLISHED)
    for name, state in store.states().items():
        staging = frozenset[str]() if state is CampaignState.archived else unpublished
        try:
            lineages.append(_lineage(home, store, store.campaign(name), staging))
        except (ConfigurationError, CatalogueError) as error:
            left_out(f"campaign {name} is left out: {error}")
    return ImpactSearch(lineages, TagCells(tables(home), conditions).of, all_samples(home, store, conditions))


def tables(home: Home) -> Path:
    """Where the derived tables are; whatever is there can be made again."""
    return home.path / "impact"


def _lineage(home: Home, store: CampaignStore, campaign: Campaign, unpublished: frozenset[str]) -> Lineage:
    catalogue = store.catalogue(campaign.catalogue)
    buckets = store.buckets(campaign.name)
    manifests = (home.area(campaign.site).cdst(campaign.name, bucket) / _MANIFEST for bucket in buckets)
    staging = {campaign.staging_tag_of(bucket) for bucket in buckets} & unpublished
    return Lineage(
        campaign,
        steps_of(campaign, catalogue),
        {name: catalogue[name].produced_payloads for name in campaign.calibrations_of(catalogue)} | campaign.imported,
        (campaign.target_tag, *sorted(staging)),
        cdst_cells(tables(home) / f"cdst_{campaign.name}.npz", manifests),
    )
