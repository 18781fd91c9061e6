"""``b2cal signoff``: decisions of people over results."""

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.bucket import BucketKey, CampaignName, bucket_of
from b2cal_cli.campaign import campaign_of, store_of
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments, home_of

if TYPE_CHECKING:
    from b2cal_core.verdicts import Decision, SignOff

app = typer.Typer(name="signoff", help="Decisions over results; they are logged for ever.", no_args_is_help=True)
CalibrationName = Annotated[
    str, typer.Argument(metavar="CALIBRATION", help="Name of the calibration, of its asset or of its script.")
]
Reason = Annotated[str, typer.Option(help="Why; it is logged.")]
Author = Annotated[str | None, typer.Option(help="Who decides; by default you.")]


@app.command(name="list")
def list_decisions(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: Annotated[str | None, typer.Argument(metavar="[BUCKET]", help="Only this bucket.")] = None,
    calibration: Annotated[str | None, typer.Argument(metavar="[CALIBRATION]", help="Only this calibration.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the decisions in the order they were logged."""
    from resources.deployment import registry_address
    from resources.signoff.embedded import EmbeddedSignOffLog

    name = campaign_of(ctx, campaign).name
    key = bucket_of(ctx, campaign, bucket).key if bucket else None
    wanted = calibration_of(ctx, campaign, calibration) if calibration else None
    decisions = EmbeddedSignOffLog(registry_address(home_of(ctx))).decisions(name, key, wanted)
    if as_json:
        print_json([_fields(decision) for decision in decisions])
        return
    columns = ("when (UTC)", "bucket", "calibration", "decision", "author", "reason")
    rows = [
        (f"{d.when:%Y-%m-%d %H:%M:%S}", d.bucket, d.calibration, d.decision.value, d.author, d.reason)
        for d in decisions
    ]
    print_table(columns, rows, empty="no decision yet")


@app.command()
def accept(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    calibration: CalibrationName,
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Accept the payloads a calibration made last; what waits for that may go on."""
    from b2cal_core.verdicts import Decision

    _decide(ctx, (campaign, bucket, calibration), Decision.accepted, reason=reason, author=author, as_json=as_json)


@app.command()
def reject(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    calibration: CalibrationName,
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Reject the payloads a calibration made last; nothing that waits for it goes on until it is redone or accepted."""
    from b2cal_core.verdicts import Decision

    _decide(ctx, (campaign, bucket, calibration), Decision.rejected, reason=reason, author=author, as_json=as_json)


def calibration_of(ctx: typer.Context, campaign: str, word: str) -> str:
    """The calibration of a campaign meant by a name, an asset name or a script name; wrong usage when there is none."""
    chosen, store = campaign_of(ctx, campaign), store_of(ctx)
    with arguments():
        catalogue = store.catalogue(chosen.catalogue)
        name = catalogue.find(word)
        known = chosen.calibrations_of(catalogue)
    if name not in known:
        raise WrongUsage(f"{name} is no calibration of campaign {campaign}; it has {', '.join(known)}")
    return name


def _decide(
    ctx: typer.Context,
    subject: tuple[str, str, str],
    decision: "Decision",
    *,
    reason: str,
    author: str | None,
    as_json: bool,
) -> None:
    from b2cal_assets.sign_offs import report_sign_off
    from b2cal_cli.ledgers import ledger_of
    from b2cal_core.verdicts import SignOff
    from resources.deployment import registry_address
    from resources.signoff.embedded import EmbeddedSignOffLog

    if not reason.strip():
        raise WrongUsage("a decision needs a reason; give one with --reason")
    campaign, word, short = subject
    bucket, name = bucket_of(ctx, campaign, word), calibration_of(ctx, campaign, short)
    home = home_of(ctx)
    with arguments(), ledger_of(home, campaign, bucket) as opened:
        payloads = opened.ledger.payloads(name)
        if payloads is None:
            raise WrongUsage(
                f"{name} has no payloads in {bucket.key} to decide over; "
                f"make them: b2cal bucket run {campaign} {bucket.key}"
            )
        who = author or getpass.getuser()
        signed = SignOff(campaign, bucket.key, name, decision, who, reason, payloads.content, datetime.now(UTC))
        EmbeddedSignOffLog(registry_address(home)).record(signed)
        report_sign_off(opened.instance, signed)
    if as_json:
        print_json(_fields(signed))
    else:
        say(f"{name} of {bucket.key} is {decision.value}; go on with: b2cal bucket run {campaign} {bucket.key}")


def _fields(decision: "SignOff") -> dict[str, str]:
    return {
        "campaign": decision.campaign,
        "bucket": decision.bucket,
        "calibration": decision.calibration,
        "decision": decision.decision.value,
        "author": decision.author,
        "reason": decision.reason,
        "evidence": decision.evidence,
        "when": decision.when.isoformat(timespec="seconds"),
    }
