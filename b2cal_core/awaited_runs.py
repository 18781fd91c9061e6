"""Whether a campaign awaits more runs, as the registry tells."""

from b2cal_core.campaigns import Campaign
from b2cal_core.ports import RunRegistry
from b2cal_core.ranges import IoV


def all_runs_there(campaign: Campaign, registry: RunRegistry) -> bool:
    """Whether the campaign's ``last_run``, or any run after it, is registered; false for a campaign without an end."""
    return campaign.last_run is not None and bool(registry.runs(IoV(*campaign.last_run, -1, -1), limit=1))
