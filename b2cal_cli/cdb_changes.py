"""Commands of ``b2cal cdb`` that make tags, change their state and fill OPEN ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.cdb_answers import (
    Author,
    DryRun,
    TagName,
    Within,
    conditions_of,
    edges_text,
    iov_of,
    link_fields,
    links_table,
)
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments
from b2cal_core.errors import ConflictError
from b2cal_core.payloads import TagState

if TYPE_CHECKING:
    from b2cal_core.payloads import LocalPayload
    from b2cal_core.publishing import TagIov
    from resources.conditions.embedded import EmbeddedConditionsDB


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


def upload(
    ctx: typer.Context,
    database: Annotated[Path, typer.Argument(metavar="DATABASE_TXT", help="A testing payload storage.")],
    tag: TagName,
    within: Within = None,
    make: Annotated[bool, typer.Option("--create", help="Make the tag when there is none.")] = False,
    dry_run: DryRun = False,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Give an OPEN tag the payloads of a testing payload storage, in place of those of the same names it has."""
    from resources.conditions.storage import read_storages
    from resources.conditions.storage import upload as upload_storages

    conditions, asked = conditions_of(ctx, author=author, make=make), iov_of(within)
    entries = read_storages([database], asked)  # before a tag is made for something that cannot be uploaded
    if dry_run:
        _show_entries(conditions, entries, as_json=as_json)
        return
    with arguments():
        if make and conditions.get_tag(tag) is None:
            conditions.create_tag(tag)
        links = upload_storages(conditions, tag, [database], within=asked)
    _show_links(links, f"tag {tag} has from {database}:", as_json=as_json)


def merge(
    ctx: typer.Context,
    out: Annotated[str, typer.Argument(metavar="OUT", help="Tag to be filled; made when there is none.")],
    sources: Annotated[list[str], typer.Argument(metavar="A B...", help="Tags; the first has the highest priority.")],
    within: Within = None,
    dry_run: DryRun = False,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Fill an empty OPEN tag with what several tags have together; no run has two payloads of one name there."""
    from b2cal_core.publishing import merge_tags

    conditions = conditions_of(ctx, author=author)
    with arguments():
        merged = merge_tags([conditions.list_iovs(source) for source in sources], iov_of(within))
        if dry_run:
            _show_links(merged, f"tag {out} would have:", as_json=as_json)
            return
        if conditions.get_tag(out) is None:
            conditions.create_tag(out, f"merged from {', '.join(sources)}")
        _require_nothing_else(conditions, out, merged)
        links = conditions.add_iovs(out, merged)
    _show_links(links, f"tag {out} has:", as_json=as_json)


def _require_nothing_else(conditions: "EmbeddedConditionsDB", tag: str, wanted: "Sequence[TagIov]") -> None:
    """A merge that was interrupted is completed; a tag with something else in it is not added to."""
    content = {(link.name, link.revision, link.iov) for link in wanted}
    if any((link.name, link.revision, link.iov) not in content for link in conditions.list_iovs(tag)):
        raise ConflictError(f"tag {tag} has other payloads already; merge into an empty or a new tag")


def _show_entries(conditions: "EmbeddedConditionsDB", entries: "Sequence[LocalPayload]", *, as_json: bool) -> None:
    from resources.conditions.payload_store import content_of

    sums = [(entry, content_of(entry.file).md5) for entry in entries]
    known = conditions.find_payloads({(entry.name, md5) for entry, md5 in sums})
    revisions = [known[entry.name, md5].revision if (entry.name, md5) in known else None for entry, md5 in sums]
    if as_json:
        print_json(
            [
                {"name": entry.name, "md5": md5, "iov": list(entry.iov), "revision": revision}
                for (entry, md5), revision in zip(sums, revisions, strict=True)
            ]
        )
        return
    rows = [
        (entry.name, f"revision {revision}" if revision else "new", *edges_text(entry.iov), md5)
        for (entry, md5), revision in zip(sums, revisions, strict=True)
    ]
    print_table(("payload", "content", "first exp/run", "last exp/run", "MD5"), rows, empty="nothing to upload")


def _show_links(links: "Sequence[TagIov]", heading: str, *, as_json: bool) -> None:
    if as_json:
        print_json([link_fields(link) for link in links])
        return
    say(heading)
    links_table(links, empty="nothing")
