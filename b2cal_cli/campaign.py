"""``b2cal campaign``: the managers' files."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.decision_terms import person, reason_of
from b2cal_cli.output import AsJson, print_json, print_table, say, tell
from b2cal_cli.session import WrongUsage, arguments, home_of
from b2cal_core.errors import ConfigurationError

if TYPE_CHECKING:
    from b2cal_core.campaigns import Campaign
    from resources.campaigns.files import FileCampaignStore

app = typer.Typer(name="campaign", help="Campaigns: one YAML file each.", no_args_is_help=True)
CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Name of the campaign.")]
Reason = Annotated[str, typer.Option(help="Why; it is logged.")]
Author = Annotated[str | None, typer.Option(help="Who decides; by default you.")]
CampaignFile = Annotated[Path, typer.Argument(metavar="FILE", help="The campaign's YAML file.")]


def store_of(ctx: typer.Context, *, make: bool = False) -> "FileCampaignStore":
    """The campaign store of the home."""
    from resources.campaigns.files import FileCampaignStore

    return FileCampaignStore(home_of(ctx, make=make))


def campaign_of(ctx: typer.Context, name: str) -> "Campaign":
    """The campaign of that name; wrong usage when there is none."""
    with arguments():
        return store_of(ctx).campaign(name)


@app.command(name="list")
def list_campaigns(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the campaigns; one whose file or release is spoiled is listed with what is wrong."""
    store = store_of(ctx)
    entries = [_entry(store, name) | {"state": state.value} for name, state in store.states().items()]
    if as_json:
        print_json(entries)
        return
    columns = ("campaign", "state", "kind", "catalogue", "target tag", "buckets", "problem")
    rows = [[entry.get(column.replace(" ", "_"), "") for column in columns] for entry in entries]
    print_table(columns, rows, empty="no campaign yet; create one: b2cal campaign create FILE")


def _entry(store: "FileCampaignStore", name: str) -> dict[str, str | int]:
    try:
        campaign = store.campaign(name)
    except ConfigurationError as error:
        return {"campaign": name, "problem": str(error)}
    return {
        "campaign": name,
        "kind": campaign.kind.value,
        "catalogue": campaign.catalogue,
        "target_tag": campaign.target_tag,
        "buckets": len(store.buckets(name)),
        **_problem(store, campaign),
    }


def _problem(store: "FileCampaignStore", campaign: "Campaign") -> dict[str, str | int]:
    """What hinders a campaign whose file is sound; nothing when its release is there and has what it asks for."""
    try:
        store.scripts(campaign.catalogue)
        campaign.fitted_to(store.catalogue(campaign.catalogue))
    except ConfigurationError as error:
        return {"problem": str(error)}
    return {}


@app.command()
def show(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="The campaign.")], as_json: AsJson = False
) -> None:
    """Show a campaign with everything its file leaves to defaults, and its calibrations in order."""
    campaign = campaign_of(ctx, name)
    store = store_of(ctx)
    catalogue = store.catalogue(campaign.catalogue)
    order = campaign.calibrations_of(catalogue)
    changes = store.changes(name)
    if as_json:
        log = [{**asdict(change), "when": f"{change.when:%Y-%m-%dT%H:%M:%SZ}"} for change in changes]
        state = store.states()[name].value
        print_json({**campaign.model_dump(mode="json"), "order": list(order), "state": state, "changes": log})
        return
    import yaml

    for change in changes:
        say(f"{change.when:%Y-%m-%d %H:%M} {change.state.value} by {change.author}: {change.reason}")
    say(yaml.safe_dump(campaign.model_dump(mode="json"), sort_keys=False, allow_unicode=True).rstrip())
    rows = [(name, catalogue[name].stage, ", ".join(catalogue[name].depends_on)) for name in order]
    print_table(("calibration", "stage", "depends on"), rows)


@app.command()
def create(ctx: typer.Context, file: CampaignFile, author: Author = None, as_json: AsJson = False) -> None:
    """Check a campaign file and keep it; the same name again replaces it, which is logged; its buckets stay."""
    store, who = store_of(ctx, make=True), person(author)
    with arguments():
        _checked(ctx, store, file)
        campaign = store.save_campaign(_text(file), author=who)
    if as_json:
        print_json(campaign.model_dump(mode="json"))
    else:
        say(f"campaign {campaign.name} is kept; it publishes to {campaign.target_tag}")


@app.command()
def pause(
    ctx: typer.Context, name: CampaignName, reason: Reason, author: Author = None, as_json: AsJson = False
) -> None:
    """Start nothing more by itself; what runs is finished, and runs and buckets are booked all the same."""
    _change(ctx, name, "paused", reason=reason, author=author, as_json=as_json)


@app.command()
def resume(
    ctx: typer.Context, name: CampaignName, reason: Reason, author: Author = None, as_json: AsJson = False
) -> None:
    """Let a paused or archived campaign work again."""
    _change(ctx, name, "active", reason=reason, author=author, as_json=as_json)


@app.command()
def archive(
    ctx: typer.Context, name: CampaignName, reason: Reason, author: Author = None, as_json: AsJson = False
) -> None:
    """End a campaign: it is not shown any more; its results, its tags and its book of buckets stay."""
    _change(ctx, name, "archived", reason=reason, author=author, as_json=as_json)


def _change(ctx: typer.Context, name: str, state: str, *, reason: str, author: str | None, as_json: bool) -> None:
    from b2cal_core.campaign_states import CampaignChange, CampaignState

    campaign_of(ctx, name)
    now = datetime.now(UTC)
    with arguments():
        change = CampaignChange(name, CampaignState(state), person(author), reason_of(reason), now)
        store_of(ctx).change_state(change)
    if as_json:
        print_json({"campaign": name, "state": state})
    else:
        say(f"campaign {name} is {state}; a running Dagster follows")


@app.command()
def check(ctx: typer.Context, file: CampaignFile, as_json: AsJson = False) -> None:
    """Check a campaign file against its catalogue and the global tags there are, and keep nothing."""
    campaign, warnings = _checked(ctx, store_of(ctx), file)
    if as_json:
        print_json({"valid": True, "campaign": campaign.name, "warnings": list(warnings)})
    else:
        say(f"{file} is a valid campaign, {campaign.name}")


def _checked(ctx: typer.Context, store: "FileCampaignStore", file: Path) -> "tuple[Campaign, tuple[str, ...]]":
    """The campaign of the file, and the warnings about its tags, which are told."""
    from b2cal_cli.campaign_tags import warnings_of_tags

    campaign = store.check_campaign(_text(file), str(file))
    try:
        warnings = warnings_of_tags(home_of(ctx), store, campaign)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}, {error}") from error
    for warning in warnings:
        tell(warning)
    return campaign, warnings


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUsage(f"{file} cannot be read: {error}") from error
