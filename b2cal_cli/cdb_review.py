"""``b2cal cdb review``: what people look at before they approve a plan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from b2cal_cli.cdb_answers import conditions_of, edges_text, registered_runs, show_plan
from b2cal_cli.cdb_publishing import PlanFile, read_plan
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import arguments

if TYPE_CHECKING:
    from b2cal_core.plans import PlanDocument
    from b2cal_core.ports import ConditionsDB
    from b2cal_core.ranges import ExpRun
    from b2cal_core.tag_reports import Change


def review(ctx: typer.Context, plan_file: PlanFile, as_json: AsJson = False) -> None:
    """Show what a plan changes for readers, run by run, where its payloads come from, and whether it still applies."""
    from b2cal_core.provenance import lacking

    document = read_plan(plan_file)
    with arguments():
        conditions = conditions_of(ctx)
        current = conditions.fingerprint(document.target) == document.fingerprint
        touched = document.touched
        runs = registered_runs(ctx, touched) if touched else []
        changes = _changes(conditions, document, runs) if current else ()
        keys = {(name, md5) for name, _, md5 in document.checksums}
        missing = lacking(keys, conditions.provenance(keys))
    if as_json:
        rows = [_fields(change) for change in changes]
        print_json({"plan_hash": document.hash, "applies": current, "changes": rows, "provenance_lacks": list(missing)})
        return
    show_plan(document)
    if not current:
        say(f"{document.target} is not as it was when the plan was made: it was applied, or make a new plan")
        return
    columns = ("payload", "first exp/run", "last exp/run", "revision now", "revision then", "registered runs")
    print_table(columns, map(_cells, changes), title="what changes for readers", empty="readers see no change")
    for sentence in missing:
        say(f"not ready to be published: {sentence}")


def _changes(conditions: "ConditionsDB", document: "PlanDocument", runs: "Sequence[ExpRun]") -> "tuple[Change, ...]":
    from b2cal_core.publishing import applied
    from b2cal_core.tag_reports import diff_tags

    names, touched = document.names, document.touched
    if touched is None:
        return ()
    before = [link for link in conditions.list_iovs(document.target, touched) if link.name in names]
    after = applied(before, document.plan)
    keys = {(link.name, link.revision) for link in (*before, *after)}
    checksums = {key: payload.md5 for key, payload in conditions.payloads_of(keys).items()}
    return diff_tags(before, after, touched, checksums=checksums, runs=runs)


def _fields(change: "Change") -> dict[str, Any]:
    before, after = change.checksums
    return {
        "name": change.name,
        "iov": list(change.iov),
        "before": {"revision": change.before, "md5": before},
        "after": {"revision": change.after, "md5": after},
        "registered_runs": change.runs,
    }


def _cells(change: "Change") -> tuple[object, ...]:
    return change.name, *edges_text(change.iov), change.before or "nothing", change.after or "nothing", change.runs
