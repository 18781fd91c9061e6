"""``b2cal bucket``: the book of buckets, and the work on them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.campaign import campaign_of, store_of
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.runs import registry_of
from b2cal_cli.session import WrongUsage, arguments, home_of
from b2cal_core.cells import command_in
from b2cal_core.errors import CalibrationError

if TYPE_CHECKING:
    from b2cal_assets.bucket_runs import BucketOutcome
    from b2cal_core.buckets import Bucket

app = typer.Typer(name="bucket", help="Buckets: runs that are calibrated together.", no_args_is_help=True)
CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign.")]
BucketKey = Annotated[str, typer.Argument(metavar="BUCKET", help="The bucket's key or label.")]


def bucket_of(ctx: typer.Context, campaign: str, word: str) -> "Bucket":
    """The bucket of that key or label; wrong usage when the campaign has none."""
    buckets = store_of(ctx).buckets(campaign_of(ctx, campaign).name)
    found = [bucket for bucket in buckets if word in {bucket.key, bucket.label}]
    if len(found) != 1:
        known = ", ".join(bucket.key for bucket in buckets) or "none"
        problem = "no bucket is" if not found else f"{len(found)} buckets are"
        raise WrongUsage(f"{problem} called {word!r} in campaign {campaign}; its buckets are {known}")
    return found[0]


@app.command(name="list")
def list_buckets(ctx: typer.Context, campaign: CampaignName, as_json: AsJson = False) -> None:
    """List the buckets of a campaign, and the runs that wait for the next one."""
    from b2cal_cli.bucket_forming import waiting_runs

    store, name = store_of(ctx), campaign_of(ctx, campaign).name
    formation = waiting_runs(home_of(ctx), store.campaign(name), store.buckets(name))
    entries = [
        {
            "bucket": entry.bucket.key,
            "label": entry.bucket.label,
            "closed_by": entry.closed_by,
            "closed_at": entry.closed_at.isoformat(timespec="seconds"),
        }
        for entry in store.book(name)
    ]
    waiting, late = ([list(record.run) for record in records] for records in (formation.waiting, formation.late))
    if as_json:
        print_json({"buckets": entries, "waiting": waiting, "late": late})
        return
    print_table(
        ("bucket", "label", "closed by", "closed at"), [tuple(e.values()) for e in entries], empty="no bucket yet"
    )
    if formation.closed:
        say(f"{len(formation.closed)} more are full; the sensor of b2cal up books them, or: b2cal bucket close {name}")
    if waiting:
        say(f"{len(waiting)} runs wait for the next bucket, up to exp {waiting[-1][0]} run {waiting[-1][1]}")
    if late:
        say(f"{len(late)} runs came too late for the buckets around them: {', '.join(f'{e}/{r}' for e, r in late)}")
        say(f"give them buckets of their own: b2cal bucket close {name} --late")


@app.command()
def close(
    ctx: typer.Context,
    campaign: CampaignName,
    last: Annotated[
        tuple[int, int] | None, typer.Option(metavar="EXP RUN", help="Last run; by default the last registered.")
    ] = None,
    label: Annotated[str, typer.Option(help="A name for people.")] = "",
    late: Annotated[
        bool, typer.Option("--late", help="Instead, those that came after the buckets around them were closed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Close the next bucket by hand: the runs that wait, up to the last one given, whatever the policy says."""
    from b2cal_cli.bucket_forming import close_by_hand, close_late
    from b2cal_core.ranges import ExpRun

    if late and (last is not None or label):
        raise WrongUsage("--late closes a bucket in each gap, whose runs and names are not given")
    chosen, store, home = campaign_of(ctx, campaign), store_of(ctx), home_of(ctx)
    with arguments():
        if late:
            buckets = close_late(home, chosen, store)
        else:
            buckets = close_by_hand(home, chosen, store, last=ExpRun(*last) if last else None, label=label)
    if as_json:
        print_json({"buckets": [bucket.key for bucket in buckets]})
    else:
        say(
            "\n".join(
                f"bucket {bucket.key} is closed; work it: b2cal bucket run {campaign} {bucket.key}"
                for bucket in buckets
            )
        )


@app.command()
def status(ctx: typer.Context, campaign: CampaignName, bucket: BucketKey, as_json: AsJson = False) -> None:
    """Show how far a bucket is: what exists, verdicts, sign-offs, and what everything else waits for."""
    from b2cal_cli.bucket_status import status_of
    from b2cal_cli.cdb_answers import publisher_of
    from b2cal_cli.ledgers import ledger_of

    chosen, store = bucket_of(ctx, campaign, bucket), store_of(ctx)
    with ledger_of(home_of(ctx), campaign, chosen) as opened:
        found = status_of(opened, store, registry_of(ctx), publisher_of(ctx))
    if as_json:
        print_json(found.to_json())
        return
    columns = ("calibration", "stage", "payloads", "verdict", "sign-off", "by")
    rows = [
        (c.calibration, c.stage, ", ".join(c.payloads) or "-", c.verdict or "-", c.sign_off or "-", c.signed_by or "-")
        for c in found.calibrations
    ]
    print_table(columns, rows, title=f"{campaign} {found.bucket} {found.label}".strip())
    for one in found.imports:
        say(f"{one.name}: {', '.join(one.payloads)} {'imported' if one.imported else 'not imported'}")
    if found.cdst is not None:
        say(f"cDST files: {'made' if found.cdst else 'not made'}")
    say(f"published: {'yes' if found.published else 'no'}; staging tag {found.staging_tag}")
    if found.left_out:
        say(f"left out: {len(found.left_out)} runs, {found.left_out_because}: {', '.join(found.left_out)}")
    waits = [*(one.waits_for for one in found.imports), *(c.waits_for for c in found.calibrations)]
    _say_reasons([*waits, found.cdst_waits_for, found.published_waits_for])


def _say_reasons(groups: Iterable[Iterable[str]]) -> None:
    """Every reason once, in order; a sign-off that several wait for, in other words each, is asked for once."""
    asked: set[str] = set()
    for reason in dict.fromkeys(reason for group in groups for reason in group):
        command = command_in([reason])
        if command in asked:
            continue
        say(f"  - {reason}")
        if command.startswith("b2cal signoff "):
            asked.add(command)


@app.command()
def run(
    ctx: typer.Context,
    campaign: CampaignName,
    buckets: Annotated[list[str], typer.Argument(metavar="BUCKET…", help="Keys or labels of buckets.")],
    only: Annotated[
        list[str] | None,
        typer.Option(help="Make only this calibration, cdst or published, and make it again; repeat it."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make everything again; unchanged work is found in caches.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Work buckets in this process: make what they lack, as far as their gates allow."""
    from b2cal_cli.bucket_working import work_buckets

    chosen = [bucket_of(ctx, campaign, word) for word in buckets]
    with arguments():
        outcomes = work_buckets(home_of(ctx), campaign, chosen, only=only or (), again=again or bool(only))
    if as_json:
        print_json([{"bucket": bucket.key, **_outcome_json(outcome)} for bucket, outcome in outcomes])
    else:
        for bucket, outcome in outcomes:
            _say_outcome(bucket.key, outcome)
    failed = [bucket.key for bucket, outcome in outcomes if not outcome.ok]
    if failed:
        sentences = "\n".join(f"  - {why}" for _, outcome in outcomes for why in outcome.failed.values())
        raise CalibrationError(f"work failed in {', '.join(failed)}; what does not depend on it is done:\n{sentences}")


def _outcome_json(outcome: "BucketOutcome") -> dict[str, object]:
    return {
        "done": list(outcome.done),
        "found": list(outcome.found),
        "failed": dict(outcome.failed),
        "blocked": {key: list(reasons) for key, reasons in outcome.blocked.items()},
        "later": list(outcome.later),
        "dagster_run": outcome.dagster_run,
    }


def _say_outcome(key: str, outcome: "BucketOutcome") -> None:
    if outcome.dagster_run is None:
        say(f"{key}: everything was done before, nothing is repeated")
        return
    say(f"{key}: {len(outcome.done)} results made, {len(outcome.found)} found, {len(outcome.failed)} steps failed")
    _say_reasons(outcome.blocked.values())


@app.command()
def backfill(
    ctx: typer.Context,
    campaign: CampaignName,
    buckets: Annotated[list[str] | None, typer.Argument(metavar="[BUCKET…]", help="By default all of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the service (b2cal up) to work buckets again; what did not change is found in caches.

    Buckets are left out that are at work, or that the service starts by itself because they are new.
    """
    from b2cal_cli.backfills import request_backfill

    chosen = [bucket_of(ctx, campaign, word) for word in buckets or ()]
    wanted = chosen or list(store_of(ctx).buckets(campaign_of(ctx, campaign).name))
    if not wanted:
        raise WrongUsage(f"campaign {campaign} has no bucket yet; close one: b2cal bucket close {campaign}")
    with arguments():
        asked = request_backfill(home_of(ctx), campaign, wanted)
    if as_json:
        print_json({"backfill": asked.backfill, "buckets": list(asked.buckets), "left_out": dict(asked.left_out)})
        return
    for key, why in asked.left_out.items():
        say(f"{key} is left out: {why}")
    if asked.backfill is None:
        say("no backfill is asked for; see how far the buckets are: b2cal bucket status")
    else:
        count = len(asked.buckets)
        say(f"backfill {asked.backfill} over {count} buckets is asked for; the service (b2cal up) carries it out")
