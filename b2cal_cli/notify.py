"""``b2cal notify``: whether people can be reached, and what has not reached them."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.output import AsJson, print_json, print_table
from b2cal_cli.session import WrongUsage, home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from b2cal_core.notices import Notice
    from b2cal_core.ports import Channel, TicketSystem

app = typer.Typer(
    name="notify", help="Notices and tickets: whether they arrive, and which did not.", no_args_is_help=True
)
_TICKETS = "tickets"


@app.command(name="test")
def try_channels(
    ctx: typer.Context,
    to: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Who is to hear it; may be repeated. By default nobody.")
    ] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel; by default all, and the tickets.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send a test notice over the channels, and look whether the tickets can be reached and assigned."""
    from datetime import UTC, datetime

    from b2cal_core.errors import BackendError
    from b2cal_core.notices import trial_notice
    from resources.deployment import read_deployment
    from resources.notify.opened import open_channels, open_tickets

    home = home_of(ctx)
    settings = read_deployment(home)
    notice = trial_notice(f"test:{datetime.now(UTC).isoformat()}", to or [])
    accounts = [person.gitlab for person in settings.people.values() if person.gitlab]
    ways = _ways(open_channels(settings, home), open_tickets(settings), notice, accounts=accounts)
    if channel is not None and channel not in ways:
        raise WrongUsage(f"there is no channel {channel!r}; deployment.yaml has {', '.join(ways) or 'none'}")
    problems = {name: _tried(way) for name, way in ways.items() if channel in {None, name}}
    if as_json:
        print_json([{"channel": name, "arrived": not why, "problem": why} for name, why in problems.items()])
    else:
        print_table(("channel", "result"), [(name, why or "arrived") for name, why in problems.items()])
    failed = [name for name, why in problems.items() if why]
    if failed:
        raise BackendError(f"people are not reached by {', '.join(failed)}; see above", transient=False)


@app.command()
def pending(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the notices that were tried and have not arrived, with the last reason."""
    from resources.deployment import registry_address
    from resources.notify.book import EmbeddedNoticeBook

    found = EmbeddedNoticeBook(registry_address(home_of(ctx))).undelivered()
    rows = [(delivery.key, delivery.channel, why) for delivery, why in found.items()]
    if as_json:
        print_json([dict(zip(("notice", "channel", "reason"), row, strict=True)) for row in rows])
    else:
        print_table(("notice", "channel", "reason"), rows, empty="everything that was tried has arrived")


def _ways(
    channels: "Mapping[str, Channel]", tickets: "TicketSystem | None", notice: "Notice", *, accounts: "Iterable[str]"
) -> "Mapping[str, Callable[[], object]]":
    """Name to what tries it; ``accounts`` are those that tickets are assigned to."""
    ways: dict[str, Callable[[], object]] = {
        name: partial(channel.notifier.tell, notice) for name, channel in channels.items()
    }
    return ways if tickets is None else ways | {_TICKETS: partial(_check, tickets, accounts)}


def _check(tickets: "TicketSystem", accounts: "Iterable[str]") -> None:
    from b2cal_core.errors import ConfigurationError
    from b2cal_core.tickets import nobody_has

    tickets.check()
    if unknown := tickets.unknown(accounts):
        raise ConfigurationError(nobody_has(unknown))


def _tried(way: "Callable[[], object]") -> str:
    """Why it does not work; empty when it does."""
    from b2cal_core.errors import CalibrationError

    try:
        way()
    except CalibrationError as error:
        return str(error)
    return ""
