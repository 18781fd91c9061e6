"""The channels and tickets that an installation's settings name. Nothing is read or asked before it is used."""

from collections.abc import Mapping

from b2cal_core.ports import Channel, TicketSystem
from resources.deployment import Deployment
from resources.home import Home
from resources.notify.log import LogNotifier
from resources.notify.settings import LOG, people_of
from resources.secret_values import Secret


def open_channels(settings: Deployment, home: Home) -> Mapping[str, Channel]:
    """Name to channel, the log first, which is ``logs/notices.log`` in the home."""
    people = people_of(settings.people)
    channels: dict[str, Channel] = (
        {LOG: Channel(LogNotifier(home.path / "logs" / "notices.log"))} if settings.notify.log else {}
    )
    for name, one in settings.notify.channels.items():
        from resources.notify.channel import AppriseNotifier  # noqa: PLC0415 (loaded where it is used)

        secret = Secret(one.address, f"the address of the channel {name}")
        channels[name] = Channel(AppriseNotifier(name, secret, people), one.kinds)
    return channels


def open_tickets(settings: Deployment) -> TicketSystem | None:
    """The ticket system; ``None`` when there is none."""
    chosen = settings.tickets
    if chosen.server is None or chosen.project is None or chosen.token is None:
        return None
    from resources.tickets.gitlab_issues import GitLabTickets  # noqa: PLC0415 (loaded where it is used)

    return GitLabTickets(chosen.server, chosen.project, Secret(chosen.token, "the token for GitLab"))
