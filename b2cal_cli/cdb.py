"""``b2cal cdb``: what the conditions database holds.

Commands that change it are in ``cdb_changes`` and ``cdb_publishing``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli import cdb_changes, cdb_editing, cdb_files, cdb_publishing, cdb_review, cdb_serving
from b2cal_cli.cdb_answers import (
    AsOf,
    Run,
    TagName,
    Within,
    conditions_of,
    edges_text,
    iov_of,
    line_of,
    link_fields,
    links_table,
    read_text,
    registered_runs,
    run_of,
)
from b2cal_cli.output import AsJson, print_json, print_table, say, tell
from b2cal_cli.session import WrongUsage, arguments, home_of
from b2cal_core.errors import DataError, IntegrityError

if TYPE_CHECKING:
    from b2cal_core.plans import PlanDocument
    from b2cal_core.ports import ConditionsDB
    from b2cal_core.publishing import TagIov
    from b2cal_core.ranges import ExpRun, IoV
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
def iovs(
    ctx: typer.Context,
    tag: TagName,
    run: Run = None,
    within: Within = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List the payloads of a tag with their IoVs."""
    from b2cal_core.ranges import IoV

    asked = iov_of(within) if run is None else IoV.spanning([run_of(run)])
    with arguments():
        conditions = conditions_of(ctx)
        links = conditions.list_iovs(tag, asked, as_of=line_of(conditions, as_of))
    if as_json:
        print_json([link_fields(link) for link in links])
    else:
        links_table(links, empty=f"tag {tag} has nothing" + (f" in {asked}" if asked else ""))


@app.command()
def resolve(
    ctx: typer.Context,
    run: Annotated[tuple[int, int], typer.Option("--run", metavar="EXP RUN", help="The run that is looked up.")],
    chain: Annotated[list[str], typer.Argument(metavar="TAG...", help="Tags; the last has the highest priority.")],
    name: Annotated[list[str] | None, typer.Option(help="Only this payload, which must be there; repeat it.")] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Show what readers of a chain of tags get in a run, and from which tag."""
    with arguments():
        conditions = conditions_of(ctx)
        found = conditions.resolve(chain, run_of(run), name or None, as_of=line_of(conditions, as_of))
    ordered = sorted(found.items())
    if as_json:
        print_json(
            [
                {"name": n, "revision": r.payload.revision, "md5": r.payload.md5, "iov": list(r.iov), "tag": r.tag}
                for n, r in ordered
            ]
        )
        return
    rows = [(n, r.payload.revision, *edges_text(r.iov), r.tag, r.payload.md5) for n, r in ordered]
    columns = ("payload", "revision", "first exp/run", "last exp/run", "tag", "MD5")
    print_table(columns, rows, empty=f"nothing is valid in {run_of(run)}")


@app.command()
def audit(
    ctx: typer.Context,
    tag: Annotated[str | None, typer.Argument(metavar="[TAG]", help="Only changes of this tag.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Fail when a line of the whole log was changed or lost since.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what was changed, by whom and why."""
    conditions = conditions_of(ctx)
    if check:
        _check_log(conditions)
    entries = conditions.audit(tag)
    fields = [
        {
            "id": entry.id,
            "when": entry.when.isoformat(timespec="seconds"),
            "author": entry.author,
            "action": entry.action,
            "tag": entry.tag,
            "reason": entry.reason,
            "approver": entry.approver,
            "plan_hash": entry.plan_hash,
            "hash": entry.hash,
            "detail": entry.detail,
        }
        for entry in entries
    ]
    if as_json:
        print_json(fields)
        return
    shown = ("id", "when", "author", "action", "tag", "reason", "approver", "plan_hash")
    rows = [[str(row[key] or "")[:12] if key == "plan_hash" else row[key] or "" for key in shown] for row in fields]
    print_table(shown, rows, empty="nothing was changed yet")


def _check_log(conditions: "ConditionsDB") -> None:
    from b2cal_core.payloads import broken_link

    broken = broken_link(conditions.audit())
    if broken is not None:
        raise IntegrityError(
            f"line {broken.id} of the audit log is not what was written, or a line before it is lost; compare the"
            " database with its copies, and find out who changed it"
        )


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
    plan: Annotated[Path | None, typer.Option(help="Plan file: show what the tag has once it is applied.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw it, as .png or .svg; with --plan before and after.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show for every payload of a tag where it is valid, with gaps and overlaps.

    Without --within, all runs from the first to the last of the tag should be covered. With --runs, a gap in which no
    registered run lies is none for --check.
    """
    from b2cal_core.publishing import applied
    from b2cal_core.tag_reports import coverage as coverage_of

    with arguments():
        links = conditions_of(ctx).list_iovs(tag)
    after = applied(links, _plan_for(tag, plan).plan) if plan else links
    wanted = iov_of(within) or _span([*links, *after])
    runs = registered_runs(ctx, wanted) if registered or picture else []
    found = coverage_of(after, wanted, runs=runs if registered else [])
    if picture is not None:
        _draw(picture, coverage_of(links, wanted, runs=runs) if plan else None, found, runs=runs, title=tag)
    _show_coverage(tag, found, registered=registered, as_json=as_json)
    bad = [c.name for c in found if c.overlaps or (c.missing_runs if registered else c.gaps)]
    if check and (bad or not found):
        raise DataError(f"tag {tag} has gaps or overlaps in {', '.join(bad) or 'everything'}")


def _plan_for(tag: str, file: Path) -> "PlanDocument":
    from b2cal_core.plans import PlanDocument

    with arguments():
        document = PlanDocument.from_json(read_text(file))
    if document.target != tag:
        raise WrongUsage(f"{file} is a plan for {document.target}, not for {tag}")
    return document


def _draw(
    file: Path,
    before: "Sequence[Coverage] | None",
    after: "Sequence[Coverage]",
    *,
    runs: "Sequence[ExpRun]",
    title: str,
) -> None:
    from resources.conditions.coverage_picture import draw_coverage

    with arguments():
        draw_coverage(before, after, runs=runs, file=file, title=f"Coverage of {title}")
    tell(f"drawn: {file}")


def _show_coverage(tag: str, found: "Sequence[Coverage]", *, registered: bool, as_json: bool) -> None:
    if as_json:
        print_json([_coverage_fields(name) for name in found])
        return
    columns = ("payload", "valid in", "gaps", "registered runs in gaps", "overlaps")
    rows = [_coverage_row(name, registered=registered) for name in found]
    print_table(columns, rows, empty=f"tag {tag} has nothing")


@app.command()
def upgrade(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Bring the tables of the conditions database up to date; make a copy of it before."""
    from resources.conditions.deployed import tables_of
    from resources.conditions.upgrades import upgrade as upgrade_tables

    before, after = upgrade_tables(tables_of(home_of(ctx)))
    if as_json:
        print_json({"before": before, "after": after})
        return
    say(f"the tables were of version {before}" + ("" if before == after else f" and are of version {after} now"))


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
    cdb_changes.clone,
    cdb_changes.state,
    cdb_changes.provenance,
    cdb_files.upload,
    cdb_files.export,
    cdb_files.import_,
    cdb_editing.merge,
    cdb_editing.fill_gaps,
    cdb_editing.open_last,
    cdb_editing.copy_local,
    cdb_publishing.plan,
    cdb_review.review,
    cdb_publishing.approve,
    cdb_publishing.apply,
    cdb_publishing.verify,
    cdb_publishing.history,
    cdb_publishing.rollback,
    cdb_publishing.compensate,
    cdb_publishing.finalize,
    cdb_publishing.processed,
    cdb_serving.serve,
    cdb_serving.token,
):
    app.command(_command.__name__.strip("_").replace("_", "-"))(_command)
