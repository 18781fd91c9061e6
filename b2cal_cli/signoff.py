"""``b2cal signoff``: decisions of people over results."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.bucket import BucketKey, CampaignName, bucket_of
from b2cal_cli.campaign import campaign_of, store_of
from b2cal_cli.decision_terms import Said, end_of, reason_of, redo_of
from b2cal_cli.output import AsJson, print_json, print_table, say, tell
from b2cal_cli.session import WrongUsage, arguments, home_of
from b2cal_core.errors import ConfigurationError

if TYPE_CHECKING:
    from b2cal_core.campaigns import Campaign
    from b2cal_core.reminders import OpenSignOff
    from b2cal_core.settings import CalibrationSettings
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
    columns = ("when (UTC)", "bucket", "calibration", "decision", "author", "reason", "terms")
    print_table(columns, [_row(decision) for decision in decisions], empty="no decision yet")


def _row(decision: "SignOff") -> tuple[str, ...]:
    terms = "; ".join(f"{name} {text}" for name, text in decision.terms.items())
    what = (decision.bucket, decision.calibration, decision.decision.value, decision.author, decision.reason)
    return (f"{decision.when:%Y-%m-%d %H:%M:%S}", *what, terms)


@app.command(name="open")
def list_open(
    ctx: typer.Context,
    campaign: Annotated[str | None, typer.Argument(metavar="[CAMPAIGN]", help="By default all of them.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what waits for a person: results for a decision, calibrations that lack data for a choice what is done."""
    from b2cal_cli.open_sign_offs import open_sign_offs

    chosen = _campaigns_at_work(ctx) if campaign is None else [campaign_of(ctx, campaign)]
    policies = {one.name: one.gates.reminders for one in chosen}
    now = datetime.now(UTC)
    found = [(one, one.to_act(policies[one.campaign], now)) for one in open_sign_offs(home_of(ctx), policies)]
    if as_json:
        print_json([_open_fields(one, people, now) for one, people in found])
        return
    columns = ("campaign", "bucket", "calibration", "verdict", "waits (days)", "who is to act")
    rows = [(*_subject(one), f"{_days(one, now):.1f}", ", ".join(people) or "-") for one, people in found]
    print_table(columns, rows, empty="nothing waits for a person")
    for one, _ in found:
        if one.question:
            say(one.question)


def _campaigns_at_work(ctx: typer.Context) -> "list[Campaign]":
    """Those that are not archived; one whose file or release is spoiled is told, and hides nothing of the others."""
    from b2cal_assets.campaign_plans import CampaignPlan
    from b2cal_core.campaign_states import CampaignState

    store, found = store_of(ctx), []
    for name, state in store.states().items():
        try:
            found += [CampaignPlan.read(store, name).campaign] if state is not CampaignState.archived else []
        except ConfigurationError as error:
            tell(f"campaign {name} is left out: {error}")
    return found


def _subject(one: "OpenSignOff") -> tuple[str, ...]:
    return one.campaign, one.bucket, one.calibration, "not enough data" if one.question else one.verdict


def _days(one: "OpenSignOff", now: datetime) -> float:
    return one.waited(now).total_seconds() / 86400


def _open_fields(one: "OpenSignOff", people: tuple[str, ...], now: datetime) -> dict[str, object]:
    return {
        "campaign": one.campaign,
        "bucket": one.bucket,
        "calibration": one.calibration,
        "verdict": one.verdict,
        "evidence": one.evidence,
        "since": one.since.isoformat(timespec="seconds"),
        "days": round(_days(one, now), 3),
        "to_act": list(people),
        "question": one.question,
    }


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

    said = Said(reason, author)
    _decide(ctx, (campaign, bucket, calibration), Decision.accepted, said=said, as_json=as_json)


@app.command()
def reject(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    calibration: CalibrationName,
    reason: Reason,
    redo_with: Annotated[
        str | None,
        typer.Option(metavar="expert_config=JSON|@FILE", help="Keys of expert_config that are different in the redo."),
    ] = None,
    exclude_run: Annotated[
        list[str] | None, typer.Option(metavar="EXP:RUN", help="A run whose data the redo leaves out; repeat it.")
    ] = None,
    boundaries: Annotated[
        str | None, typer.Option(metavar="EXP:RUN,…", help="First runs of payloads in the redo; empty for one payload.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="What earlier rejections asked for no longer counts.")] = False,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Reject the payloads a calibration made last; nothing that waits for it goes on until it is redone or accepted."""
    from b2cal_core.verdicts import Decision

    chosen, settings = bucket_of(ctx, campaign, bucket), _settings(ctx, campaign, calibration)
    redo = redo_of(chosen, settings, config=redo_with, excluded=exclude_run or (), boundaries=boundaries, anew=anew)
    said = Said(reason, author, redo=redo)
    _decide(ctx, (campaign, bucket, calibration), Decision.rejected, said=said, as_json=as_json)


@app.command()
def waive(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    calibration: CalibrationName,
    reason: Reason,
    until: Annotated[str, typer.Option(metavar="DATE", help="Last day on which it lets anything through, in UTC.")],
    figure: Annotated[str, typer.Option(help="Only this figure of merit; by default whatever failed.")] = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Let a failed verdict through the gates until a day; what has not gone on by then stays where it is."""
    from b2cal_core.verdicts import Decision

    said = Said(reason, author, until=end_of(until), figure=figure)
    _decide(ctx, (campaign, bucket, calibration), Decision.waived, said=said, as_json=as_json)


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


def _settings(ctx: typer.Context, campaign: str, word: str) -> "CalibrationSettings":
    name, chosen = calibration_of(ctx, campaign, word), campaign_of(ctx, campaign)
    return store_of(ctx).catalogue(chosen.catalogue)[name]


def _decide(
    ctx: typer.Context, subject: tuple[str, str, str], decision: "Decision", *, said: Said, as_json: bool
) -> None:
    from b2cal_cli.deciding import decide

    reason_of(said.reason)
    campaign, word, short = subject
    bucket, name = bucket_of(ctx, campaign, word), calibration_of(ctx, campaign, short)
    signed, is_published = decide(home_of(ctx), (campaign, bucket, name), decision, said)
    if as_json:
        print_json(_fields(signed))
        return
    end = f" until {signed.until:%Y-%m-%d %H:%M} UTC" if signed.until is not None else ""
    say(f"{name} of {bucket.key} is {decision.value}{end}; {_next_step(signed)}")
    if is_published:
        then = f"b2cal bucket why {campaign} {bucket.key} published"
        say(f"{bucket.key} is published, which no decision changes; what can be done for readers: {then}")


def _next_step(signed: "SignOff") -> str:
    """What is typed after a decision; what was rejected as it is would not be made again without its name."""
    from b2cal_core.settings import asset_name
    from b2cal_core.verdicts import Decision

    run = f"b2cal bucket run {signed.campaign} {signed.bucket}"
    if signed.decision is not Decision.rejected:
        return f"go on with: {run}"
    return f"do it again with: {run}{'' if signed.redo else f' --only {asset_name(signed.calibration)}'}"


def _fields(decision: "SignOff") -> dict[str, object]:
    return {
        "campaign": decision.campaign,
        "bucket": decision.bucket,
        "calibration": decision.calibration,
        "decision": decision.decision.value,
        "author": decision.author,
        "deputy_of": decision.deputy_of,
        "reason": decision.reason,
        "evidence": decision.evidence,
        "when": decision.when.isoformat(timespec="seconds"),
        "until": decision.until.isoformat(timespec="seconds") if decision.until is not None else None,
        "figure": decision.figure,
        "redo": decision.redo.model_dump(mode="json") if decision.redo is not None else None,
    }
