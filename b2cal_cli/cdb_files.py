"""Commands of ``b2cal cdb`` that move payloads between the database and files: storages, and basf2's metadata file."""

from collections.abc import Sequence
from enum import StrEnum
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
    keep_record,
    link_fields,
    links_table,
    read_record,
)
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments

if TYPE_CHECKING:
    from b2cal_core.payloads import LocalPayload
    from b2cal_core.ports import ConditionsDB
    from b2cal_core.publishing import TagIov


class FileFormat(StrEnum):
    """A testing payload storage, or basf2's metadata file with the payload files beside it."""

    storage = "storage"
    sqlite = "sqlite"


class Doubled(StrEnum):
    """What is done where a metadata file has two payloads for a run."""

    refuse = "refuse"
    settle = "settle"
    keep = "keep"


def upload(
    ctx: typer.Context,
    database: Annotated[Path, typer.Argument(metavar="DATABASE_TXT", help="A testing payload storage.")],
    tag: TagName,
    within: Within = None,
    make: Annotated[bool, typer.Option("--create", help="Make the tag when there is none.")] = False,
    provenance: Annotated[
        Path | None, typer.Option(metavar="RECORD.json", help="Where the payloads come from; see b2cal cdb provenance.")
    ] = None,
    last_line_wins: Annotated[
        bool, typer.Option("--last-line-wins", help="Of overlapping lines take what basf2 reads, instead of refusing.")
    ] = False,
    dry_run: DryRun = False,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Give an OPEN tag the payloads of a testing payload storage, in place of those of the same names it has."""
    from resources.conditions.storage import read_storages
    from resources.conditions.storage import upload as upload_storages

    record = read_record(provenance) if provenance else None
    conditions, asked = conditions_of(ctx, author=author, make=make), iov_of(within)
    # before a tag is made for something that cannot be uploaded
    entries = read_storages([database], asked, last_line_wins=last_line_wins)
    if dry_run:
        _show_entries(conditions, entries, as_json=as_json)
        return
    with arguments():
        if make and conditions.get_tag(tag) is None:
            conditions.create_tag(tag)
        links = upload_storages(conditions, tag, [database], within=asked, last_line_wins=last_line_wins)
    if record is not None:
        keep_record(conditions, links, record, author=author)
    _show_links(links, f"tag {tag} has from {database}:", as_json=as_json)


def export(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory of a storage, or a .sqlite file.")],
    chain: Annotated[list[str], typer.Argument(metavar="TAG...", help="Tags; the last has the highest priority.")],
    file_format: Annotated[FileFormat, typer.Option("--format", help="What is written.")] = FileFormat.storage,
    within: Within = None,
    name: Annotated[list[str] | None, typer.Option(help="Only this payload; repeat it.")] = None,
    base_url: Annotated[str, typer.Option(help="Of a metadata file: where basf2 finds payload files it lacks.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write tags so that basf2 reads them without a server; an export that is complete is left as it is.

    A storage holds what the chain of tags has together, one answer per run. A metadata file holds each tag as it is.
    """
    if file_format is FileFormat.sqlite:
        if within is not None or name:
            raise WrongUsage("a metadata file holds whole tags; leave out --within and --name")
        _export_sqlite(ctx, out, chain, base_url=base_url, as_json=as_json)
    else:
        _export_storage(ctx, out, chain, within=within, names=name or None, as_json=as_json)


def _export_sqlite(ctx: typer.Context, file: Path, tags: Sequence[str], *, base_url: str, as_json: bool) -> None:
    from resources.conditions.sqlite_export import export_sqlite

    with arguments():
        written = export_sqlite(conditions_of(ctx), tags, file, base_url=base_url)
    if as_json:
        print_json({"file": str(written), "tags": list(tags)})
    else:
        say(f"{written} has {', '.join(tags)}; the payload files are in {written.parent}")


def _export_storage(
    ctx: typer.Context,
    directory: Path,
    chain: Sequence[str],
    *,
    within: tuple[int, int, int, int] | None,
    names: Sequence[str] | None,
    as_json: bool,
) -> None:
    from b2cal_caf.local_database import LocalDatabase
    from b2cal_core.ranges import IoV

    asked = iov_of(within) or IoV(0, 0, -1, -1)
    with arguments():
        text_file = conditions_of(ctx).export(chain, directory, within=asked, names=names)
    entries = LocalDatabase(text_file).entries()
    if as_json:
        print_json({"database": str(text_file), "lines": len(entries)})
    else:
        say(f"{text_file} has {len(entries)} lines, with {len({entry.file for entry in entries})} payload files")


def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.sqlite", help="A metadata file of b2conditionsdb or b2cal.")],
    tag: Annotated[list[str] | None, typer.Option(help="Only this tag; repeat it.")] = None,
    payloads: Annotated[
        list[Path] | None, typer.Option(help="Directory with payload files; by default that of the file; repeat it.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Put before the name of every tag.")] = "",
    states: Annotated[bool, typer.Option("--states", help="Bring each tag to the state it has in the file.")] = False,
    overlaps: Annotated[Doubled, typer.Option(help="Two payloads for one run: do what?")] = Doubled.refuse,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Take tags over from a metadata file; asked again, what was broken off is completed."""
    from resources.conditions.sqlite_import import Overlaps, import_sqlite

    with arguments():
        made = import_sqlite(
            conditions_of(ctx, author=author, make=True),
            file,
            payloads or [file.parent],
            tags=tag or None,
            prefix=prefix,
            with_states=states,
            overlaps=Overlaps(overlaps.value),
        )
    if as_json:
        print_json([{"name": one.name, "state": one.state.value} for one in made])
    else:
        print_table(("tag", "state"), [(one.name, one.state) for one in made], empty="no tags")


def _show_entries(conditions: "ConditionsDB", entries: "Sequence[LocalPayload]", *, as_json: bool) -> None:
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
