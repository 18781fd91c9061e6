"""Commands of ``b2cal cdb`` that make tags, change their state, fill them and say where their payloads come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.cdb_answers import (
    Author,
    TagName,
    author_of,
    conditions_of,
    read_record,
)
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments
from b2cal_core.payloads import TagState

if TYPE_CHECKING:
    from b2cal_core.provenance import PayloadKey, Provenance


def create(
    ctx: typer.Context,
    tag: TagName,
    description: Annotated[str, typer.Option(help="What the tag is for.")] = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Make an empty OPEN tag."""
    with arguments():
        made = conditions_of(ctx, author=author, make=True).create_tag(tag, description)
    if as_json:
        print_json({"name": made.name, "state": made.state.value})
    else:
        say(f"tag {made.name} is {made.state}")


def state(
    ctx: typer.Context,
    tag: TagName,
    new: Annotated[TagState, typer.Argument(metavar="STATE", case_sensitive=False, help="The new state.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask back, whatever cannot be undone.")] = False,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Change the state of a tag, one step at a time; PUBLISHED, RUNNING and INVALID cannot be undone."""
    conditions = conditions_of(ctx, author=author)
    found = conditions.get_tag(tag)
    if found is None:
        raise WrongUsage(f"there is no global tag {tag!r}; b2cal cdb tags lists those there are")
    if new in {TagState.PUBLISHED, TagState.RUNNING, TagState.INVALID} and not yes:
        typed = typer.prompt(f"{new} cannot be undone; type {new} again to make {tag} so", err=True)
        if typed != new:
            raise WrongUsage(f"{typed!r} is not {new}; tag {tag} stays {found.state}")
    changed = conditions.set_state(tag, expected=found.state, new=new)
    if as_json:
        print_json({"name": changed.name, "state": changed.state.value})
    else:
        say(f"tag {changed.name} is {changed.state}")


def clone(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Tag to be copied.")],
    tag: Annotated[str, typer.Argument(metavar="TAG", help="Name of the copy.")],
    state: Annotated[TagState, typer.Option(case_sensitive=False, help="State of the copy.")] = TagState.OPEN,
    description: Annotated[str, typer.Option(help="What the tag is for.")] = "",
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Make a tag with what another has now; in the state PUBLISHED it is a snapshot for ever."""
    with arguments():
        made = conditions_of(ctx, author=author).clone_tag(source, tag, state=state, description=description)
    if as_json:
        print_json({"name": made.name, "state": made.state.value})
    else:
        say(f"tag {made.name} is {made.state} and has what {source} had")


def provenance(
    ctx: typer.Context,
    tag: TagName,
    file: Annotated[
        Path | None, typer.Argument(metavar="[RECORD.json]", help="Record to be kept of all payloads of the tag.")
    ] = None,
    name: Annotated[list[str] | None, typer.Option(help="Only these payloads; repeat it.")] = None,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Show where the payloads of a tag come from, or keep a record of it; without one they cannot be published.

    A record is a JSON object with code, inputs, runs, tags, upstream, config and validation, or with outside, inputs
    and validation for what others made.
    """
    conditions = conditions_of(ctx, author=author)
    with arguments():
        links = [link for link in conditions.list_iovs(tag) if not name or link.name in name]
        known = conditions.payloads_of({(link.name, link.revision) for link in links})
        keys = sorted({(payload.name, payload.md5) for payload in known.values()})
        if file is not None:
            record = read_record(file)
            conditions.record_provenance(dict.fromkeys(keys, record), author=author_of(author))
    _show_provenance(keys, conditions.provenance(keys), as_json=as_json)


def _show_provenance(keys: "Sequence[PayloadKey]", found: "Mapping[PayloadKey, Provenance]", *, as_json: bool) -> None:
    if as_json:
        records = {key: found[key].model_dump(mode="json") if key in found else None for key in keys}
        print_json([{"name": key[0], "md5": key[1], "record": record} for key, record in records.items()])
        return
    rows = [(*key, *_provenance_cells(found.get(key))) for key in keys]
    print_table(("payload", "MD5", "made by", "runs", "inputs", "verdict", "missing"), rows, empty="no payloads")


def _provenance_cells(record: "Provenance | None") -> tuple[object, ...]:
    if record is None:
        return "-", "-", "-", "-", "everything"
    verdict = (record.validation or {}).get("verdict", "-")
    maker = record.code or record.outside or "-"
    return maker, len(record.runs or ()), len(record.inputs or ()), verdict, ", ".join(record.missing)
