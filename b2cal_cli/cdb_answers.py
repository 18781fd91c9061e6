"""What the commands of ``b2cal cdb`` share: their arguments, and how links of tags are shown."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, overload

import typer

from b2cal_cli.output import print_table, say
from b2cal_cli.session import WrongUsage, arguments, home_of

if TYPE_CHECKING:
    from b2cal_core.payloads import Release
    from b2cal_core.plans import PlanDocument
    from b2cal_core.ports import ConditionsDB
    from b2cal_core.provenance import Provenance
    from b2cal_core.publishing import TagIov
    from b2cal_core.ranges import ExpRun, IoV
    from resources.conditions.publisher import Publisher

TagName = Annotated[str, typer.Argument(metavar="TAG", help="Name of a global tag.")]
Run = Annotated[tuple[int, int] | None, typer.Option(metavar="EXP RUN", help="Only what is valid in this run.")]
Within = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option(metavar="EXP RUN EXP RUN", help="Only these runs, both ends included; -1 leaves an end open."),
]
PlanOutput = Annotated[Path | None, typer.Option("-o", "--output", help="File for the plan.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Reason = Annotated[str, typer.Option(help="Why; it is logged.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="LINE|TIME", help="As it was right after this line of the audit log, or at this time, 2026-05-17T12:00."
    ),
]
Approver = Annotated[str | None, typer.Option(help="Who approved it; it is logged.")]
Author = Annotated[str | None, typer.Option(help="Who does it, for the log; by default you.")]


_DONE = {"close": "keep until", "create": "add", "drop": "take out"}


def conditions_of(ctx: typer.Context, *, author: str | None = None, make: bool = False) -> "ConditionsDB":
    """The conditions database of the home, in the hands of the author."""
    from resources.conditions.deployed import open_conditions

    return open_conditions(home_of(ctx, make=make), user=author_of(author))


def publisher_of(ctx: typer.Context, *, author: str | None = None) -> "Publisher":
    """Plans and publishes in the conditions database of the home."""
    return opened(ctx, author)[1]


def opened(ctx: typer.Context, author: str | None) -> tuple["ConditionsDB", "Publisher"]:
    """The conditions database of the home, and what plans and publishes in it."""
    from resources.conditions.deployed import open_publisher

    conditions = conditions_of(ctx, author=author)
    return conditions, open_publisher(home_of(ctx), conditions)


def author_of(author: str | None) -> str:
    """Who is named in the log: the one given, else the user of the machine."""
    from getpass import getuser

    return author or getuser()


def release_of(author: str | None, approver: str | None, reason: str) -> "Release":
    """Who publishes or notes something, who approved, and why."""
    from b2cal_core.payloads import Release

    return Release(author_of(author), approver or "", reason)


def line_of(conditions: "ConditionsDB", as_of: str | None) -> int | None:
    """The line of the audit log that ``--as-of`` means; a time without zone is in UTC."""
    from datetime import UTC, datetime

    if as_of is None or as_of.isdecimal():
        return None if as_of is None else int(as_of)
    try:
        given = datetime.fromisoformat(as_of)
    except ValueError as error:
        raise WrongUsage(f"--as-of takes a line of the audit log or a time like 2026-05-17T12:00: {error}") from error
    when = given if given.tzinfo else given.replace(tzinfo=UTC)
    return max((entry.id for entry in conditions.audit() if entry.when <= when), default=0)


@overload
def iov_of(within: tuple[int, int, int, int]) -> "IoV": ...


@overload
def iov_of(within: tuple[int, int, int, int] | None) -> "IoV | None": ...


def iov_of(within: tuple[int, int, int, int] | None) -> "IoV | None":
    """The IoV of ``--within``; wrong usage when the numbers are none."""
    from b2cal_core.ranges import IoV

    try:
        return None if within is None else IoV(*within)
    except ValueError as error:
        raise WrongUsage(f"--within: {error}") from error


def registered_runs(ctx: typer.Context, within: "IoV") -> "list[ExpRun]":
    """The runs that the registry knows in an IoV."""
    from resources.deployment import registry_address
    from resources.runs.embedded import EmbeddedRunRegistry

    return [record.run for record in EmbeddedRunRegistry(registry_address(home_of(ctx))).runs(within)]


def run_of(run: tuple[int, int]) -> "ExpRun":
    """The run of ``--run``; wrong usage when the numbers are none."""
    from b2cal_core.ranges import ExpRun

    try:
        return ExpRun(*run)
    except ValueError as error:
        raise WrongUsage(f"--run: {error}") from error


def read_text(file: Path) -> str:
    """The text of a file named as an argument; wrong usage when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{file} cannot be read: {error}") from error


def read_record(file: Path) -> "Provenance":
    """A provenance record named as an argument."""
    from b2cal_core.provenance import Provenance

    with arguments():
        return Provenance.from_json(read_text(file))


def keep_record(
    conditions: "ConditionsDB", links: Iterable["TagIov"], record: "Provenance", *, author: str | None
) -> None:
    """Keep a record of the payloads that are linked."""
    known = conditions.payloads_of({(link.name, link.revision) for link in links})
    keys = {(payload.name, payload.md5) for payload in known.values()}
    conditions.record_provenance(dict.fromkeys(keys, record), author=author_of(author))


def write_plan(document: "PlanDocument", file: Path) -> None:
    """Write a plan file, whole or not at all."""
    from b2cal_caf.atomic_files import write_atomically

    write_atomically(file, document.to_json().encode())


def show_plan(document: "PlanDocument") -> None:
    """A plan for people: what it does, its changes, what it was made for."""
    rows = [
        (_DONE[operation.kind], operation.name, operation.revision, *edges_text(operation.iov))
        for operation in document.plan.operations
    ]
    start = f" from {document.first_run}, mode {document.mode}" if document.first_run else ""
    say(f"{document.purpose or document.kind} of {document.target}{start}")
    columns = ("change", "payload", "revision", "first exp/run", "last exp/run")
    print_table(columns, rows, empty="nothing to change")
    if document.safe_run is not None:
        say(f"runs before {document.safe_run.run} could not be changed any more: {document.safe_run.reason}")
    say(f"plan {document.hash[:12]}, made for {document.target} as of {document.fingerprint[:12]}")


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
