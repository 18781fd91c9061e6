"""Looking up the global tags that a campaign names, when its file is checked. Importing this is slow."""

from contextlib import suppress

from b2cal_core.campaign_states import CampaignState
from b2cal_core.campaign_tags import KnownTags, check_tags
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.ports import CampaignStore
from resources.conditions.deployed import open_conditions
from resources.deployment import read_deployment
from resources.home import Home


def warnings_of_tags(home: Home, store: CampaignStore, campaign: Campaign) -> tuple[str, ...]:
    """What a person should know of the campaign's tags, in sentences.

    Raises:
        ConfigurationError: the campaign cannot work with these tags.
        BackendError: the installation's own database does not answer; a server of others that does not is a warning.
    """
    try:
        conditions = open_conditions(home)
        found = map(conditions.get_tag, {*campaign.base_tags, campaign.target_tag})
        states = {tag.name: tag.state for tag in found if tag is not None}
    except BackendError as error:
        if read_deployment(home).conditions.kind == "embedded":
            raise
        return (f"the tags were not looked up: {error}",)
    return check_tags(campaign, KnownTags(states, _to_come(store, campaign)))


def _to_come(store: CampaignStore, campaign: Campaign) -> dict[str, str]:
    """The target tags of the other campaigns, without those that are over or cannot be read."""
    found: dict[str, str] = {}
    for name, state in store.states().items():
        if name != campaign.name and state is not CampaignState.archived:
            with suppress(ConfigurationError):
                found[store.campaign(name).target_tag] = name
    return found
