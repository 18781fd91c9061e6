import hashlib
from datetime import UTC, datetime

import pytest

from b2cal_core.campaign_states import CampaignVersion, check_apart
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError


def campaign(name: str, **more: str) -> Campaign:
    return Campaign(**{"name": name, "catalogue": "r1", "base_tags": ("main",), "target_tag": f"data_{name}", **more})


@pytest.mark.parametrize(
    ("mine", "other", "says"),
    [
        (
            {"target_tag": "shared"},
            {"target_tag": "shared"},
            r"proc publishes to shared already.*archive proc --reason",
        ),
        ({"staging_tag": "s_{bucket}"}, {"staging_tag": "s_{bucket}"}, r"put \{campaign\} into staging_tag"),
        ({"staging_tag": "s_{campaign}_{bucket}"}, {"staging_tag": "s_prompt_{bucket}"}, "proc has the same staging"),
    ],
)
def test_two_campaigns_that_write_one_tag_are_refused(mine: dict[str, str], other: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_apart(campaign("prompt", **mine), [campaign("proc", **other)])


def test_a_campaign_is_no_obstacle_to_itself() -> None:
    check_apart(campaign("prompt"), [campaign("prompt"), campaign("proc")])


def test_a_text_of_a_campaign_is_known_by_the_hash_of_its_bytes() -> None:
    version = CampaignVersion("prompt", "mia", "größer", datetime(2026, 1, 2, tzinfo=UTC))
    assert version.sha256 == hashlib.sha256("größer".encode()).hexdigest()
