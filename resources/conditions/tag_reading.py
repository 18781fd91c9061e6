"""Reading a tag as one: its state, its fingerprint and its links of the same moment."""

from dataclasses import dataclass

from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.payloads import GlobalTag, TagState
from b2cal_core.plans import fingerprint_of
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV


@dataclass(frozen=True, slots=True)
class TagReading:
    """A tag as it was at one moment; ``links`` are those that share a run with what was asked for."""

    tag: GlobalTag
    fingerprint: str
    links: tuple[TagIov, ...]

    @property
    def mark(self) -> tuple[str, str]:
        """Name and fingerprint, as plans note their sources."""
        return self.tag.name, self.fingerprint

    def require(self, state: TagState, what: str) -> None:
        """Raise ``ConflictError`` unless the tag is in the state that ``what`` needs."""
        if self.tag.state is not state:
            raise ConflictError(
                f"tag {self.tag.name} is {self.tag.state}, and {what} takes a tag that is {state}; bring it to that"
                " state, or choose another. Nothing was changed"
            )


def read_tag(conditions: ConditionsDB, name: str, within: IoV | None = None) -> TagReading:
    """The tag with its links that share a run with ``within``, by default all of them.

    Raises:
        ConfigurationError: there is no such tag.
        ConflictError: somebody changed the tag meanwhile.
    """
    expected = conditions.fingerprint(name)
    tag = conditions.get_tag(name)
    if tag is None:
        raise ConfigurationError(f"there is no global tag {name!r}; `b2cal cdb tags` lists those there are")
    links = conditions.list_iovs(name, within)
    found = conditions.fingerprint(name) if within else fingerprint_of(tag.state, links)
    if found != expected:
        raise ConflictError(f"tag {name} was changed while it was read; nothing was changed by us. Ask again")
    return TagReading(tag, found, links)
