"""What is said of the global tags that a campaign names, before any work is done."""

import pytest

from b2cal_core.campaign_tags import KnownTags, check_tags
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState

CAMPAIGN = Campaign(name="again", catalogue="r1", base_tags=("main", "prompt"), target_tag="again_running")
BASE = {"main": TagState.PUBLISHED, "prompt": TagState.RUNNING}
PROMPT = {"prompt": "first"}


def known(to_come: dict[str, str] | None = None, **states: TagState) -> KnownTags:
    return KnownTags(states, to_come or {})


@pytest.mark.parametrize("target", [{}, {"again_running": TagState.OPEN}, {"again_running": TagState.RUNNING}])
def test_tags_as_they_should_be_are_not_worth_a_word(target: dict[str, TagState]) -> None:
    assert check_tags(CAMPAIGN, known(**BASE, **target)) == ()


def test_a_base_tag_that_is_not_there_is_refused_unless_another_campaign_makes_it() -> None:
    with pytest.raises(
        ConfigurationError, match=r"base_tags: there is no global tag 'prompt'.*b2cal cdb create prompt"
    ):
        check_tags(CAMPAIGN, known(main=TagState.PUBLISHED))
    (warning,) = check_tags(CAMPAIGN, known(PROMPT, main=TagState.PUBLISHED))
    assert warning == "base tag prompt is not there before campaign first publishes to it"


def test_a_base_tag_that_is_invalid_is_refused_whoever_publishes_to_it() -> None:
    with pytest.raises(ConfigurationError, match="base_tags: prompt is INVALID"):
        check_tags(CAMPAIGN, known(PROMPT, main=TagState.PUBLISHED, prompt=TagState.INVALID))


@pytest.mark.parametrize("state", [TagState.PUBLISHED, TagState.INVALID])
def test_a_target_tag_that_nothing_can_be_published_to_is_refused(state: TagState) -> None:
    with pytest.raises(ConfigurationError, match=f"target_tag: again_running is {state}, for good"):
        check_tags(CAMPAIGN, known(**BASE, again_running=state))


@pytest.mark.parametrize("state", [TagState.TESTING, TagState.VALIDATED])
def test_a_target_tag_that_must_be_opened_first_is_told_with_the_command(state: TagState) -> None:
    (warning,) = check_tags(CAMPAIGN, known(**BASE, again_running=state))
    assert warning.startswith(f"target tag again_running is {state}; ")
    assert warning.endswith("b2cal cdb state again_running OPEN")
