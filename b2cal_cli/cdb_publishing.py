"""Commands of ``b2cal cdb`` that publish: make a plan, have it looked at, apply just that, and read it back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.cdb_answers import (
    Author,
    DryRun,
    Reason,
    conditions_of,
    edges_text,
    link_fields,
    links_table,
    run_of,
)
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments
from b2cal_core.errors import DataError
from b2cal_core.publishing import UpdateMode

if TYPE_CHECKING:
    from b2cal_core.plans import PlanDocument

PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="A file that b2cal cdb plan wrote.")]
_DONE = {"close": "keep until", "create": "add"}


def plan(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="RUNNING tag to publish into.")],
    staging: Annotated[str, typer.Argument(metavar="STAGING", help="VALIDATED tag to publish.")],
    run: Annotated[tuple[int, int], typer.Option(metavar="EXP RUN", help="First run whose constants may change.")],
    mode: Annotated[UpdateMode, typer.Option(help="What may happen to payloads that end.")] = UpdateMode.strict,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File for the plan.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Work out how a staging tag comes into a running one; nothing is changed until the plan is applied."""
    from resources.conditions.verification import make_plan

    if output is None and not (dry_run or as_json):
        raise WrongUsage("name a file for the plan with -o, or only look at it with --dry-run")
    with arguments():
        document = make_plan(conditions_of(ctx), target, staging, first_run=run_of(run), mode=mode)
    if output is not None and not dry_run:
        from b2cal_caf.atomic_files import write_atomically

        write_atomically(output, document.to_json().encode())
    if as_json:
        typer.echo(document.to_json(), nl=False)
        return
    _show(document)
    if output is not None and not dry_run:
        say(f"apply it: b2cal cdb apply {output}")


def apply(
    ctx: typer.Context,
    plan_file: PlanFile,
    reason: Reason = "",
    dry_run: DryRun = False,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Apply a plan, in one transaction, if the running tag is as it was when the plan was made."""
    from getpass import getuser

    from b2cal_core.errors import ConflictError

    document = _read(plan_file)
    conditions = conditions_of(ctx, author=author)
    if dry_run:
        with arguments():
            if conditions.fingerprint(document.target) != document.fingerprint:
                raise ConflictError(f"tag {document.target} was changed after the plan was made; make a new plan")
        if not as_json:
            _show(document)
        else:
            typer.echo(document.to_json(), nl=False)
        return
    with arguments():
        links = conditions.apply(
            document.plan,
            target=document.target,
            fingerprint=document.fingerprint,
            author=author or getuser(),
            reason=reason or f"update from {document.staging}",
        )
    if as_json:
        print_json({"plan_hash": document.hash, "target": document.target, "iovs": [link_fields(li) for li in links]})
        return
    names = {operation.name for operation in document.plan.operations}
    links_table([link for link in links if link.name in names], empty=f"nothing to do in {document.target}")
    say(f"plan {document.hash[:12]} is applied to {document.target}; read it back: b2cal cdb verify {plan_file}")


def verify(ctx: typer.Context, plan_file: PlanFile, as_json: AsJson = False) -> None:
    """Read back whether the running tag became what a plan says; fail when it did not."""
    from resources.conditions.verification import discrepancies, is_as_predicted

    document = _read(plan_file)
    conditions = conditions_of(ctx)
    with arguments():
        found = list(discrepancies(conditions, document))
        latest = is_as_predicted(conditions, document)
    if as_json:
        print_json({"plan_hash": document.hash, "discrepancies": found, "as_predicted": latest})
    if found:
        raise DataError(f"tag {document.target} is not what plan {document.hash[:12]} says: {'; '.join(found)}")
    if not as_json:
        later = "" if latest else "; the tag was updated again since"
        say(f"{document.target} holds all {len(document.plan.operations)} changes of plan {document.hash[:12]}{later}")


def _read(file: Path) -> "PlanDocument":
    from b2cal_core.plans import PlanDocument

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"the plan file {file} cannot be read: {error}") from error
    with arguments():
        return PlanDocument.from_json(text)


def _show(document: "PlanDocument") -> None:
    rows = [
        (_DONE[operation.kind], operation.name, operation.revision, *edges_text(operation.iov))
        for operation in document.plan.operations
    ]
    say(f"{document.staging} into {document.target} from {document.first_run}, mode {document.mode}")
    columns = ("change", "payload", "revision", "first exp/run", "last exp/run")
    print_table(columns, rows, empty="nothing to change")
    say(f"plan {document.hash[:12]}, made for {document.target} as of {document.fingerprint[:12]}")
