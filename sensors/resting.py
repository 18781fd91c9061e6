"""Campaigns for which sensors start nothing."""

from b2cal_core.campaign_states import CampaignChange, CampaignState
from b2cal_core.ports import CampaignStore


def resting(store: CampaignStore) -> frozenset[str]:
    """The campaigns that people paused or archived; asked in every tick, so that it holds at once."""
    return frozenset(name for name, state in store.states().items() if state is not CampaignState.active)


def rest_of(store: CampaignStore, name: str) -> CampaignChange | None:
    """Who paused or archived a campaign, when and why; ``None`` while it works."""
    last = next(reversed(store.changes(name)), None)
    return last if last is not None and last.state is not CampaignState.active else None
