"""Code locations: what one code server shows of an installation, by the name that its location has in the workspace.

Either one location shows everything, or each campaign has its own beside one for what campaigns share.
"""

from b2cal_core.errors import ConfigurationError

LOCATION_VARIABLE = "B2CAL_LOCATION"
"""Names the location to a code server, and to all that it starts; without it everything is shown."""
SHARED = "b2cal"
"""The location of what campaigns share, or of everything."""
_OF_CAMPAIGN = f"{SHARED}-"
"""No campaign has a dash in its name, so that none can be called like another location."""


def location_of(campaign: str) -> str:
    """The location of a campaign that has its own."""
    return f"{_OF_CAMPAIGN}{campaign}"


def campaign_of(location: str) -> str | None:
    """The campaign that a location shows, ``None`` for the shared one; ``ConfigurationError`` when it is neither."""
    if location == SHARED:
        return None
    campaign = location.removeprefix(_OF_CAMPAIGN)
    if campaign in {location, ""}:
        raise ConfigurationError(
            f"{LOCATION_VARIABLE} is {location!r}, and must be {SHARED}, {_OF_CAMPAIGN}CAMPAIGN, or not set at all"
        )
    return campaign
