"""``b2cal cdb``: what the conditions database holds.

Commands that change it are in ``cdb_changes`` and ``cdb_publishing``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli import cdb_changes, cdb_publishing
from b2cal_cli.cdb_answers import (
    Run,
    TagName,
    Within,
    conditions_of,
    edges_text,
    iov_of,
    link_fields,
    links_table,
    run_of,
)
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import arguments, home_of
from b2cal_core.errors import DataError

if TYPE_CHECKING:
    from b2cal_core.publishing import TagIov
    from b2cal_core.ranges import IoV
    from b2cal_core.tag_reports import Coverage

app = typer.Typer(name="cdb", help="The conditions database: global tags and their payloads.", no_args_is_help=True)


@app.command()
def tags(
    ctx: typer.Context,
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Only tags like this, with * and ?.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List global tags with their state and size."""
    conditions = conditions_of(ctx)
    rows = [
        {
            "name": tag.name,
            "state": tag.state.value,
            "type": tag.type,
            "iovs": len(conditions.list_iovs(tag.name)),
            "description": tag.description,
        }
        for tag in conditions.list_tags(pattern)
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("tag", "state", "type", "IoVs", "description"), [tuple(row.values()) for row in rows], empty="no tags"
        )


@app.command()
def iovs(ctx: typer.Context, tag: TagName, run: Run = None, within: Within = None, as_json: AsJson = False) -> None:
    """List the payloads of a tag with their IoVs."""
    from b2cal_core.ranges import IoV

    asked = iov_of(within) if run is None else IoV.spanning([run_of(run)])
    with arguments():
        links = conditions_of(ctx).list_iovs(tag, asked)
    if as_json:
        print_json([link_fields(link) for link in links])
    else:
        links_table(links, empty=f"tag {tag} has nothing" + (f" in {asked}" if asked else ""))


@app.command()
def audit(
    ctx: typer.Context,
    tag: Annotated[str | None, typer.Argument(metavar="[TAG]", help="Only changes of this tag.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what was changed, by whom and why."""
    entries = conditions_of(ctx).audit(tag)
    fields = [
        {
            "id": entry.id,
            "when": entry.when.isoformat(timespec="seconds"),
            "author": entry.author,
            "action": entry.action,
            "tag": entry.tag,
            "reason": entry.reason,
            "plan_hash": entry.plan_hash,
            "detail": entry.detail,
        }
        for entry in entries
    ]
    if as_json:
        print_json(fields)
        return
    shown = ("id", "when", "author", "action", "tag", "reason", "plan_hash")
    print_table(shown, [[row[key] or "" for key in shown] for row in fields], empty="nothing was changed yet")


@app.command()
def diff(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="A", help="Tag to compare with.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Tag to compare.")],
    within: Within = None,
    as_json: AsJson = False,
) -> None:
    """Show in which runs two tags have different payloads; how their IoVs are cut makes no difference."""
    from b2cal_core.tag_reports import diff_tags

    conditions = conditions_of(ctx)
    with arguments():
        found = diff_tags(conditions.list_iovs(before), conditions.list_iovs(after), iov_of(within))
    if as_json:
        print_json([{"name": d.name, "iov": list(d.iov), "before": d.before, "after": d.after} for d in found])
        return
    rows = [(d.name, *edges_text(d.iov), d.before or "nothing", d.after or "nothing") for d in found]
    columns = ("payload", "first exp/run", "last exp/run", f"revision in {before}", f"revision in {after}")
    print_table(columns, rows, empty=f"{before} and {after} have the same payload in every run")


@app.command()
def coverage(
    ctx: typer.Context,
    tag: TagName,
    within: Within = None,
    registered: Annotated[bool, typer.Option("--runs", help="Count the registered runs that lie in gaps.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail when there is a gap or an overlap.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show for every payload of a tag where it is valid, with gaps and overlaps.

    Without --within, all runs from the first to the last of the tag should be covered. With --runs, a gap in which no
    registered run lies is none for --check.
    """
    from b2cal_core.tag_reports import coverage as coverage_of
    from resources.runs.embedded import EmbeddedRunRegistry

    with arguments():
        links = conditions_of(ctx).list_iovs(tag)
    wanted = iov_of(within) or _span(links)
    runs = [r.run for r in EmbeddedRunRegistry(home_of(ctx).registry_url).runs(wanted)] if registered else []
    found = coverage_of(links, wanted, runs=runs)
    if as_json:
        print_json([_coverage_fields(name) for name in found])
    else:
        columns = ("payload", "valid in", "gaps", "registered runs in gaps", "overlaps")
        rows = [_coverage_row(name, registered=registered) for name in found]
        print_table(columns, rows, empty=f"tag {tag} has nothing")
    bad = [c.name for c in found if c.overlaps or (c.missing_runs if registered else c.gaps)]
    if check and (bad or not found):
        raise DataError(f"tag {tag} has gaps or overlaps in {', '.join(bad) or 'everything'}")


@app.command()
def export(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Gets database.txt and the payload files.")],
    chain: Annotated[list[str], typer.Argument(metavar="TAG...", help="Tags; the last has the highest priority.")],
    within: Within = None,
    name: Annotated[list[str] | None, typer.Option(help="Only this payload; repeat it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a chain of tags has as a testing payload storage; one that is complete is left as it is."""
    from b2cal_caf.local_database import LocalDatabase
    from b2cal_core.ranges import IoV

    asked = iov_of(within) or IoV(0, 0, -1, -1)
    with arguments():
        text_file = conditions_of(ctx).export(chain, directory, within=asked, names=name or None)
    entries = LocalDatabase(text_file).entries()
    if as_json:
        print_json({"database": str(text_file), "lines": len(entries)})
    else:
        say(f"{text_file} has {len(entries)} lines, with {len({entry.file for entry in entries})} payload files")


def _span(links: "Sequence[TagIov]") -> "IoV":
    """From the first to the last run of a tag; all runs for an empty one."""
    from b2cal_core.ranges import IoV

    if not links:
        return IoV(0, 0, -1, -1)
    return IoV.of_edges(min(link.iov.start for link in links), max(link.iov.stop for link in links))


def _coverage_row(found: "Coverage", *, registered: bool) -> tuple[object, ...]:
    missing = len(found.missing_runs) if registered else "not asked"
    return found.name, _texts(found.covered.iovs), _texts(found.gaps), missing, _texts(found.overlaps)


def _coverage_fields(found: "Coverage") -> dict[str, object]:
    return {
        "name": found.name,
        "covered": [list(iov) for iov in found.covered.iovs],
        "gaps": [list(iov) for iov in found.gaps],
        "overlaps": [list(iov) for iov in found.overlaps],
        "missing_runs": [list(run) for run in found.missing_runs],
    }


def _texts(iovs: Iterable["IoV"]) -> str:
    return ", ".join(" to ".join(edges_text(iov)) for iov in iovs) or "-"


for _command in (
    cdb_changes.create,
    cdb_changes.state,
    cdb_changes.upload,
    cdb_changes.merge,
    cdb_publishing.plan,
    cdb_publishing.apply,
    cdb_publishing.verify,
):
    app.command()(_command)
