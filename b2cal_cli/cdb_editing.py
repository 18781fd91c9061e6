"""Commands of ``b2cal cdb`` that change what an OPEN tag has, by a plan that can be looked at and applied later."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.cdb_answers import (
    Author,
    DryRun,
    PlanOutput,
    Reason,
    TagName,
    Within,
    author_of,
    conditions_of,
    iov_of,
    link_fields,
    links_table,
    opened,
    registered_runs,
    release_of,
    show_plan,
    write_plan,
)
from b2cal_cli.output import AsJson, print_json, say
from b2cal_cli.session import arguments

if TYPE_CHECKING:
    from b2cal_core.plans import PlanDocument
    from b2cal_core.ports import ConditionsDB
    from resources.conditions.publisher import Publisher

Names = Annotated[list[str] | None, typer.Option("--name", help="Only this payload; repeat it.")]
Runs = Annotated[
    tuple[int, int, int, int],
    typer.Option("--within", metavar="EXP RUN EXP RUN", help="The runs it is about, both ends included."),
]


def merge(
    ctx: typer.Context,
    out: Annotated[str, typer.Argument(metavar="OUT", help="Tag to be filled; made when there is none.")],
    sources: Annotated[list[str], typer.Argument(metavar="A B...", help="Tags; the first has the highest priority.")],
    within: Within = None,
    output: PlanOutput = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Fill an empty OPEN tag with what several tags have together; no run has two payloads of one name there."""
    if dry_run and conditions_of(ctx).get_tag(out) is None:
        _show_merged(ctx, sources, within=within, as_json=as_json)
        return
    with arguments():
        conditions, publisher = opened(ctx, author)
        for source in sources:
            conditions.list_iovs(source)  # before a tag is made for nothing
        if conditions.get_tag(out) is None:
            conditions.create_tag(out, f"merged from {', '.join(sources)}")
        document = publisher.plan_merge(out, sources, within=iov_of(within))
        _settle(conditions, publisher, document, output, dry_run=dry_run, said=(author, reason), json=as_json)


def fill_gaps(
    ctx: typer.Context,
    tag: TagName,
    within: Runs,
    name: Names = None,
    registered: Annotated[bool, typer.Option("--runs", help="Only gaps in which a registered run lies.")] = False,
    output: PlanOutput = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Where an OPEN tag has a gap, make the payload before it valid up to the next one."""
    asked = iov_of(within)
    runs = registered_runs(ctx, asked) if registered else None
    with arguments():
        conditions, publisher = opened(ctx, author)
        document = publisher.plan_gap_fill(tag, asked, names=name or None, runs=runs)
        _settle(conditions, publisher, document, output, dry_run=dry_run, said=(author, reason), json=as_json)


def open_last(
    ctx: typer.Context,
    tag: TagName,
    name: Names = None,
    output: PlanOutput = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Make the last payload of each name of an OPEN tag valid for ever."""
    with arguments():
        conditions, publisher = opened(ctx, author)
        document = publisher.plan_open_last(tag, names=name or None)
        _settle(conditions, publisher, document, output, dry_run=dry_run, said=(author, reason), json=as_json)


def copy_local(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A subsystem's tag with local calibrations.")],
    tag: TagName,
    within: Runs,
    name: Names = None,
    output: PlanOutput = None,
    dry_run: DryRun = False,
    reason: Reason = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Give an OPEN tag, for a bucket's runs only, what another tag has there; in other runs nothing changes."""
    asked = iov_of(within)
    with arguments():
        conditions, publisher = opened(ctx, author)
        document = publisher.plan_local_copy(tag, source, within=asked, names=name or None)
        _settle(conditions, publisher, document, output, dry_run=dry_run, said=(author, reason), json=as_json)


def _settle(
    conditions: "ConditionsDB",
    publisher: "Publisher",
    document: "PlanDocument",
    output: Path | None,
    *,
    dry_run: bool,
    said: tuple[str | None, str],
    json: bool,
) -> None:
    """Show the plan; write it where it is wanted, else carry it out, unless it is only tried."""
    if not json:
        show_plan(document)
    if dry_run:
        _answer(document, json=json)
        return
    if output is not None:
        write_plan(document, output)
        _answer(document, json=json)
        if not json:
            say(f"apply it: b2cal cdb apply {output} --approver NAME")
        return
    author, reason = said
    publisher.apply(document, release_of(author, author_of(author), reason or document.purpose))
    if json:
        print_json([link_fields(link) for link in conditions.list_iovs(document.target)])
    else:
        say(f"{document.target} is changed" if document.plan.operations else f"{document.target} is as it was")


def _answer(document: "PlanDocument", *, json: bool) -> None:
    if json:
        typer.echo(document.to_json(), nl=False)


def _show_merged(
    ctx: typer.Context, sources: list[str], *, within: tuple[int, int, int, int] | None, as_json: bool
) -> None:
    from b2cal_core.publishing import merge_tags

    with arguments():
        conditions = conditions_of(ctx)
        merged = merge_tags([conditions.list_iovs(source) for source in sources], iov_of(within))
    if as_json:
        print_json([link_fields(link) for link in merged])
    else:
        links_table(merged, empty="nothing")
