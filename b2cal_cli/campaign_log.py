"""``b2cal campaign log``: who changed a campaign's file or state, when, and why."""

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2cal_cli.campaign import CampaignName, campaign_of, store_of
from b2cal_cli.output import AsJson, print_json, print_table, say, tell

if TYPE_CHECKING:
    from b2cal_core.campaign_states import CampaignVersion
    from resources.campaigns.files import FileCampaignStore


def log(
    ctx: typer.Context,
    name: CampaignName,
    diff: Annotated[bool, typer.Option("--diff", help="Show what each text changed, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show who changed a campaign's file or state, when and why; nothing is ever taken out of this log."""
    store = store_of(ctx)
    entries = _entries(store, name)
    if not entries:
        campaign_of(ctx, name)
    if as_json:
        print_json(entries)
        return
    columns = ("when (UTC)", "author", "change", "reason or hash")
    rows = [(e["when"], e["author"], e["change"], e.get("reason", e.get("sha256", "")[:12])) for e in entries]
    print_table(columns, rows, empty=f"nothing was logged of campaign {name} yet")
    for entry in entries if diff else ():
        for line in entry.get("diff", ()):
            say(line)
    _tell_of_edits(store, name)


def _entries(store: "FileCampaignStore", name: str) -> list[dict[str, Any]]:
    """The changes of file and state in the order of time."""
    states: list[dict[str, Any]] = [
        {"when": change.when, "author": change.author, "change": change.state.value, "reason": change.reason}
        for change in store.changes(name)
    ]
    versions = store.versions(name)
    files = [_fields(version, before) for version, before in zip(versions, (None, *versions), strict=False)]
    ordered = sorted([*files, *states], key=lambda entry: entry["when"])
    return [{**entry, "when": f"{entry['when']:%Y-%m-%dT%H:%M:%SZ}"} for entry in ordered]


def _fields(version: "CampaignVersion", before: "CampaignVersion | None") -> dict[str, Any]:
    old, new = ("" if text is None else text.text for text in (before, version))
    since = "nothing" if before is None else before.sha256[:12]
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), since, version.sha256[:12], lineterm="", n=1)
    fields = {"when": version.when, "author": version.author, "change": "file", "sha256": version.sha256}
    return {**fields, "text": version.text, "diff": list(lines)}


def _tell_of_edits(store: "FileCampaignStore", name: str) -> None:
    """Say it when the file is not what was logged last."""
    versions = store.versions(name)
    if versions and name in store.names() and store.campaign_text(name) != versions[-1].text:
        tell(f"the file of campaign {name} was edited since by hand, which is logged when the file is replaced")
