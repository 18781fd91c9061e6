"""Campaigns for which sensors start nothing."""

from b2cal_core.campaign_states import CampaignState
from b2cal_core.ports import CampaignStore


def resting(store: CampaignStore) -> frozenset[str]:
    """The campaigns that people paused or archived; asked in every tick, so that it holds at once."""
    return frozenset(name for name, state in store.states().items() if state is not CampaignState.active)
