"""Whether a campaign works: people start, pause and archive it, and every change is kept with its reason."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError


class CampaignState(StrEnum):
    """What a campaign does by itself."""

    active = "active"
    """Whatever can run does so at once."""
    paused = "paused"
    """What runs is finished; nothing new starts by itself, runs and buckets are booked all the same."""
    archived = "archived"
    """Over: it is not shown any more, its results and its book stay."""


@dataclass(frozen=True, slots=True)
class CampaignChange:
    """One change of a campaign's state, as the append-only log keeps it; ``when`` is in UTC."""

    campaign: str
    state: CampaignState
    author: str
    reason: str
    when: datetime


@dataclass(frozen=True, slots=True)
class CampaignVersion:
    """One text of a campaign's file and who gave it, as the append-only log keeps it; ``when`` is in UTC."""

    campaign: str
    author: str
    text: str
    when: datetime

    @property
    def sha256(self) -> str:
        """Of the text in UTF-8, in lower-case hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def check_apart(campaign: Campaign, others: Iterable[Campaign]) -> None:
    """Refuse a campaign whose tags another one writes too: each has its own.

    Raises:
        ConfigurationError: the tag and the other campaign.
    """
    for other in others:
        if other.name == campaign.name:
            continue
        if other.target_tag == campaign.target_tag:
            raise ConfigurationError(
                f"campaign {other.name} publishes to {campaign.target_tag} already; choose another target_tag, or"
                f' archive that campaign: b2cal campaign archive {other.name} --reason "…"'
            )
        if _staging(other) == _staging(campaign):
            raise ConfigurationError(
                f"campaign {other.name} has the same staging tags, {campaign.staging_tag}; put {{campaign}} into"
                " staging_tag"
            )


def _staging(campaign: Campaign) -> str:
    return campaign.staging_tag.replace("{campaign}", campaign.name)
