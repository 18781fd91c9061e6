"""Commands of ``b2cal cdb`` that publish: make a plan, have it approved, apply just that, read it back, go back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.cdb_answers import (
    Approver,
    Author,
    DryRun,
    PlanOutput,
    Reason,
    TagName,
    conditions_of,
    link_fields,
    links_table,
    publisher_of,
    read_text,
    release_of,
    run_of,
    show_plan,
    write_plan,
)
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments
from b2cal_core.errors import ConflictError, DataError
from b2cal_core.publishing import UpdateMode

if TYPE_CHECKING:
    from b2cal_core.plans import PlanDocument

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file, as b2cal cdb plan and others write it.")]
FirstRun = Annotated[tuple[int, int], typer.Option("--run", metavar="EXP RUN", help="First run that may change.")]


def plan(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="RUNNING tag to publish into.")],
    staging: Annotated[str, typer.Argument(metavar="STAGING", help="VALIDATED tag to publish.")],
    run: FirstRun,
    mode: Annotated[UpdateMode, typer.Option(help="What may happen to payloads that end.")] = UpdateMode.strict,
    output: PlanOutput = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Work out how a staging tag comes into a running one; nothing is changed until the plan is applied."""
    if output is None and not (dry_run or as_json):
        raise WrongUsage("name a file for the plan with -o, or only look at it with --dry-run")
    with arguments():
        document = publisher_of(ctx).plan_update(target, staging, first_run=run_of(run), mode=mode)
    _finish(document, None if dry_run else output, as_json=as_json)


def approve(
    ctx: typer.Context,
    plan_file: PlanFile,
    reason: Reason = "",
    approver: Approver = None,
    as_json: AsJson = False,
) -> None:
    """Note that a plan was looked at and may be applied."""
    document = read_plan(plan_file)
    release = release_of(approver, release_of(approver, None, "").author, reason or "looked at")
    with arguments():
        publisher_of(ctx, author=approver).approve(document, release)
    if as_json:
        print_json({"plan_hash": document.hash, "approver": release.approver})
    else:
        say(f"plan {document.hash[:12]} is approved by {release.approver}")


def apply(
    ctx: typer.Context,
    plan_file: PlanFile,
    reason: Reason = "",
    dry_run: DryRun = False,
    author: Author = None,
    approver: Approver = None,
    as_json: AsJson = False,
) -> None:
    """Apply a plan if the tag is as it was when the plan was made, and read it back.

    Without --approver the last one who approved it with `b2cal cdb approve` is named.
    """
    document = read_plan(plan_file)
    if dry_run:
        _try(ctx, document, as_json=as_json)
        return
    approved = approver or _approver(ctx, document)
    release = release_of(author, approved, reason or document.purpose)
    with arguments():
        links = publisher_of(ctx, author=author).apply(document, release)
    if as_json:
        print_json({"plan_hash": document.hash, "target": document.target, "iovs": [link_fields(li) for li in links]})
        return
    links_table(links, empty=f"nothing to do in {document.target}")
    say(f"plan {document.hash[:12]} is applied to {document.target} and read back")
    say(f"take it back while it is not final: b2cal cdb rollback {document.hash[:12]}")


def verify(ctx: typer.Context, plan_file: PlanFile, as_json: AsJson = False) -> None:
    """Read back whether a tag became what a plan says; fail when it did not."""
    document = read_plan(plan_file)
    publisher = publisher_of(ctx)
    with arguments():
        seen = publisher.verify(document)
    found = seen.discrepancies
    if as_json:
        print_json({"plan_hash": document.hash, "discrepancies": list(found), "as_predicted": seen.latest})
    if found:
        raise DataError(f"tag {document.target} is not what plan {document.hash[:12]} says: {'; '.join(found)}")
    if not as_json:
        later = "" if seen.latest else "; the tag was updated again since"
        say(f"{document.target} holds all {len(document.plan.operations)} changes of plan {document.hash[:12]}{later}")
        say(seen.visibility)


def history(ctx: typer.Context, tag: TagName, as_json: AsJson = False) -> None:
    """List the plans of a tag that the log tells of, and what became of each."""
    with arguments():
        records = publisher_of(ctx).history(tag)
    rows = []
    for record in records:
        document, applied = record.document, record.applied
        rows.append(
            {
                "plan_hash": record.plan_hash,
                "state": record.state,
                "purpose": document.purpose if document else "",
                "applied": applied.when.isoformat(timespec="seconds") if applied else "",
                "author": applied.author if applied else "",
                "approvers": sorted({line.approver for line in record.lines if line.approver}),
            }
        )
    if as_json:
        print_json(rows)
        return
    cells = [(str(row["plan_hash"])[:12], *list(row.values())[1:5], ", ".join(row["approvers"])) for row in rows]
    print_table(("plan", "state", "purpose", "applied", "author", "approved by"), cells, empty=f"{tag} has no plans")


def rollback(
    ctx: typer.Context,
    plan_hash: Annotated[str, typer.Argument(metavar="PLAN-HASH", help="Hash of an applied plan, or how it begins.")],
    reason: Reason = "",
    dry_run: DryRun = False,
    author: Author = None,
    approver: Approver = None,
    as_json: AsJson = False,
) -> None:
    """Take an applied plan back, as long as it is not final: nothing was processed with it, nobody said it is."""
    publisher = publisher_of(ctx, author=author)
    with arguments():
        document = publisher.plan_rollback(plan_hash)
        if not dry_run:
            publisher.apply(document, release_of(author, approver, reason))
    _finish(document, None, as_json=as_json)
    if not (dry_run or as_json):
        say(f"{document.target} is as it was before plan {plan_hash}")


def compensate(
    ctx: typer.Context,
    plan_hash: Annotated[str, typer.Argument(metavar="PLAN-HASH", help="Hash of an applied plan, or how it begins.")],
    run: Annotated[
        tuple[int, int] | None,
        typer.Option("--run", metavar="EXP RUN", help="First run that may change; by default the first safe one."),
    ] = None,
    output: PlanOutput = None,
    as_json: AsJson = False,
) -> None:
    """Plan an update that gives later runs what they would have without an applied plan; for plans that are final."""
    if output is None and not as_json:
        raise WrongUsage("name a file for the plan with -o")
    with arguments():
        document = publisher_of(ctx).plan_compensation(plan_hash, first_run=run_of(run) if run else None)
    _finish(document, output, as_json=as_json)


def finalize(
    ctx: typer.Context,
    plan_hash: Annotated[str, typer.Argument(metavar="PLAN-HASH", help="Hash of an applied plan, or how it begins.")],
    reason: Reason = "",
    author: Author = None,
    approver: Approver = None,
    as_json: AsJson = False,
) -> None:
    """Say that a publish is final: from now on it is made up for, never taken back."""
    with arguments():
        entry = publisher_of(ctx, author=author).finalize(plan_hash, release_of(author, approver, reason))
    if as_json:
        print_json({"plan_hash": entry.plan_hash, "state": "final"})
    else:
        say(f"plan {(entry.plan_hash or plan_hash)[:12]} is final")


def processed(
    ctx: typer.Context,
    tag: Annotated[str, typer.Argument(metavar="TAG", help="The tag the runs were processed with.")],
    run: Annotated[tuple[int, int], typer.Option("--run", metavar="EXP RUN", help="The last run that was processed.")],
    reason: Reason = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Note up to which run data were processed with a tag; constants up to there are not changed any more."""
    last = run_of(run)
    conditions = conditions_of(ctx, author=author)
    with arguments():
        conditions.list_iovs(tag)
    detail = json.dumps({"exp": last.exp, "run": last.run})
    conditions.note(tag, action="processed", release=release_of(author, None, reason), detail=detail)
    if as_json:
        print_json({"tag": tag, "last_processed": list(last)})
    else:
        say(f"runs up to {last} count as processed with {tag}")


def _try(ctx: typer.Context, document: "PlanDocument", *, as_json: bool) -> None:
    with arguments():
        if conditions_of(ctx).fingerprint(document.target) != document.fingerprint:
            raise ConflictError(f"tag {document.target} was changed after the plan was made; make a new plan")
    _finish(document, None, as_json=as_json)


def _finish(document: "PlanDocument", output: Path | None, *, as_json: bool) -> None:
    """Show the plan, and write it where it is wanted."""
    if output is not None:
        write_plan(document, output)
    if as_json:
        typer.echo(document.to_json(), nl=False)
        return
    show_plan(document)
    if output is not None:
        say(f"look at it: b2cal cdb review {output}, have it approved: b2cal cdb approve {output}")


def _approver(ctx: typer.Context, document: "PlanDocument") -> str:
    """Who approved the plan last; wrong usage when nobody did."""
    with arguments():
        log = conditions_of(ctx).audit(document.target)
    approved = [e.approver for e in log if e.action == "approve" and e.plan_hash == document.hash]
    if not approved:
        raise WrongUsage(
            f"nobody has approved plan {document.hash[:12]}; have it approved with b2cal cdb approve, or name the"
            " --approver"
        )
    return approved[-1]


def read_plan(file: Path) -> "PlanDocument":
    """The plan in a file named as an argument."""
    from b2cal_core.plans import PlanDocument

    with arguments():
        return PlanDocument.from_json(read_text(file))
