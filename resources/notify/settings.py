"""What an installation says about notices and tickets: sections of its ``deployment.yaml``. No secret stands there."""

from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from b2cal_core.notices import NoticeKind, People, Person
from resources.conditions.rest.addresses import is_loopback
from resources.secret_values import SecretSource

LOG = "log"
"""The channel that is there without being configured."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PersonSettings(_Section):
    """How a person is reached, under the name by which scripts and campaigns call them.

    Attributes:
        email: for channels that write to people.
        gitlab: the account that tickets are assigned to.
    """

    email: str = ""
    gitlab: str = ""


class ChannelSettings(_Section):
    """One way to reach people.

    Attributes:
        address: where its apprise address is: ``env:NAME`` or ``file:PATH``; ``{email}`` in the apprise address stands
            for the address of who is to hear a notice.
        kinds: what is told there; by default everything.
    """

    address: SecretSource
    kinds: frozenset[NoticeKind] = frozenset(NoticeKind)


class NotifySettings(_Section):
    """Who is told, and how.

    Attributes:
        log: notices are written into a file of the home.
        channels: name to channel.
    """

    log: bool = True
    channels: Mapping[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")], ChannelSettings] = {}

    @field_validator("channels")
    @classmethod
    def _log_is_no_channel(cls, value: Mapping[str, ChannelSettings]) -> Mapping[str, ChannelSettings]:
        if LOG in value:
            raise ValueError(f"{LOG} is the channel that is switched with notify.log; give this one another name")
        return value


class TicketSettings(_Section):
    """The GitLab project that holds the tickets; none by default.

    Attributes:
        server: for example ``https://gitlab.example.org``.
        project: with its groups, for example ``belle2/calibration``.
        token: where it is: ``env:NAME`` or ``file:PATH``; with the scope ``api``.
    """

    server: str | None = None
    project: str | None = None
    token: SecretSource | None = None

    @field_validator("server")
    @classmethod
    def _keeps_the_token_secret(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise ValueError("must be an address like https://gitlab.example.org, without user or password")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("must be asked over https, since the token would be readable")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "TicketSettings":
        given = [value for value in (self.server, self.project, self.token) if value]
        if len(given) not in {0, 3}:
            raise ValueError("server, project and token belong together")
        return self


def people_of(settings: Mapping[str, PersonSettings]) -> People:
    """Who is who."""
    listed: Iterable[Person] = (Person(name, one.email, one.gitlab) for name, one in settings.items())
    return People(listed)
