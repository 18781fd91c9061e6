"""What the commands of ``b2cal cdb`` share: their arguments, and how links of tags are shown."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2cal_cli.output import print_table
from b2cal_cli.session import WrongUsage, home_of

if TYPE_CHECKING:
    from b2cal_core.publishing import TagIov
    from b2cal_core.ranges import ExpRun, IoV
    from resources.conditions.embedded import EmbeddedConditionsDB

TagName = Annotated[str, typer.Argument(metavar="TAG", help="Name of a global tag.")]
Run = Annotated[tuple[int, int] | None, typer.Option(metavar="EXP RUN", help="Only what is valid in this run.")]
Within = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option(metavar="EXP RUN EXP RUN", help="Only these runs, both ends included; -1 leaves an end open."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Reason = Annotated[str, typer.Option(help="Why; it is logged.")]
Author = Annotated[str | None, typer.Option(help="Who does it, for the log; by default you.")]


def conditions_of(ctx: typer.Context, *, author: str | None = None, make: bool = False) -> "EmbeddedConditionsDB":
    """The conditions database of the home."""
    from getpass import getuser

    from resources.conditions.embedded import EmbeddedConditionsDB

    return EmbeddedConditionsDB(home_of(ctx, make=make).conditions_dir, author=author or getuser())


def iov_of(within: tuple[int, int, int, int] | None, default: "IoV | None" = None) -> "IoV | None":
    """The IoV of ``--within``; wrong usage when the numbers are none."""
    from b2cal_core.ranges import IoV

    try:
        return default if within is None else IoV(*within)
    except ValueError as error:
        raise WrongUsage(f"--within: {error}") from error


def run_of(run: tuple[int, int]) -> "ExpRun":
    """The run of ``--run``; wrong usage when the numbers are none."""
    from b2cal_core.ranges import ExpRun

    try:
        return ExpRun(*run)
    except ValueError as error:
        raise WrongUsage(f"--run: {error}") from error


def edges_text(iov: "IoV") -> tuple[str, str]:
    """First and last run of an IoV, for people."""
    last_run = "last" if iov.run_high == -1 else f"{iov.run_high}"
    return f"{iov.exp_low}/{iov.run_low}", "open" if iov.is_open else f"{iov.exp_high}/{last_run}"


def link_fields(link: "TagIov") -> dict[str, Any]:
    """A link for JSON."""
    return {"name": link.name, "revision": link.revision, "iov": list(link.iov), "id": link.id}


def links_table(links: Iterable["TagIov"], *, empty: str) -> None:
    """Links as a table."""
    rows = [(link.name, link.revision, *edges_text(link.iov)) for link in links]
    print_table(("payload", "revision", "first exp/run", "last exp/run"), rows, empty=empty)
