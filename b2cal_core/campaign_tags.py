"""Whether the global tags that a campaign names can serve it: told before any work is done, not after all of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState

_ENDED = frozenset({TagState.PUBLISHED, TagState.INVALID})
_PUBLISHED_TO = frozenset({TagState.OPEN, TagState.RUNNING})


@dataclass(frozen=True, slots=True)
class KnownTags:
    """What is known of global tags.

    Attributes:
        states: of the tags that are there.
        to_come: target tags of other campaigns, with the campaign that makes each.
    """

    states: Mapping[str, TagState]
    to_come: Mapping[str, str]


def check_tags(campaign: Campaign, known: KnownTags) -> tuple[str, ...]:
    """What a person should know of the campaign's tags; nothing when they are as they should be.

    Raises:
        ConfigurationError: a base tag is not there and none will make it, or is INVALID; or nothing can ever be
            published to the target tag.
    """
    missing = [name for name in campaign.base_tags if name not in known.states]
    for name in campaign.base_tags:
        if name in missing and name not in known.to_come:
            raise ConfigurationError(
                f"base_tags: there is no global tag {name!r}; b2cal cdb tags lists those there are, and b2cal cdb"
                f" create {name} makes an empty one"
            )
        if known.states.get(name) is TagState.INVALID:
            raise ConfigurationError(f"base_tags: {name} is INVALID, and never read again; choose another tag")
    awaited = (
        f"base tag {name} is not there before campaign {known.to_come[name]} publishes to it" for name in missing
    )
    return (*awaited, *_of_target(campaign.target_tag, known.states.get(campaign.target_tag)))


def _of_target(name: str, state: TagState | None) -> tuple[str, ...]:
    """The same of the target tag, which is made when it is needed."""
    if state in _ENDED:
        raise ConfigurationError(
            f"target_tag: {name} is {state}, for good, and nothing can be published to it; choose another tag"
        )
    if state is None or state in _PUBLISHED_TO:
        return ()
    return (f"target tag {name} is {state}; before anything is published, open it: b2cal cdb state {name} OPEN",)
