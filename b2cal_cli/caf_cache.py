"""``b2cal caf why|cache``: why something was collected or was not, and how much the collector cache holds."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments, home_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b2cal_caf.cache_cleaning import CacheUsage, Cleaned
    from b2cal_caf.cache_reasons import FileReason, ReasonLine
    from b2cal_caf.collector_cache import CollectorCache

CacheDirectory = Annotated[Path | None, typer.Option("--cache", metavar="DIR", help="Another cache than the home's.")]
_GIGABYTE = 1_000_000_000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(why)
    app.command()(cache)


def why(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Working directory of a request, also while it runs.")
    ],
    calibration: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    collection: Annotated[str | None, typer.Option(help="Only those of this name.")] = None,
    iteration: Annotated[int | None, typer.Option(min=0, help="Only this one, counted from 0.")] = None,
    files: Annotated[bool, typer.Option("--files", help="Every input file, not one line for each reason.")] = False,
    cache_directory: CacheDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Explain what of a request was found in the collector cache, and why the rest had to be collected."""
    from b2cal_caf.cache_reasons import explain, in_lines, plans_of

    with arguments():
        plans = plans_of(directory, calibration=calibration, collection=collection, iteration=iteration)
    reasons = explain(plans, _cache_of_request(ctx, directory, cache_directory))
    if files:
        print_json([_file_json(reason) for reason in reasons]) if as_json else _show_files(reasons)
    else:
        lines = in_lines(reasons)
        print_json([_line_json(line) for line in lines]) if as_json else _show_lines(lines)


def _cache_of_request(ctx: typer.Context, directory: Path, named: Path | None) -> "CollectorCache":
    """The cache that was named, that in the request's own directory, or that of the home."""
    from b2cal_caf.cache_index import INDEX_FILE
    from b2cal_caf.collector_cache import CollectorCache

    own = directory / "cache"
    if named is None and not (own / INDEX_FILE).is_file():
        named = home_of(ctx).cache
    return CollectorCache.existing(named or own)


def _show_lines(lines: "Sequence[ReasonLine]") -> None:
    cells = []
    for line in lines:
        one = line.example
        example = f"{Path(one.file).name}: {one.detail}" if one.detail else Path(one.file).name
        cells.append((_place(one), _outcome(one), line.subjobs, line.files, one.sentence, example))
    print_table(("collection", "cache", "sub-jobs", "files", "why", "for example"), cells)


def _show_files(reasons: "Sequence[FileReason]") -> None:
    cells = [
        (_place(one), one.subjob, one.file, str(one.run), _outcome(one), one.sentence, one.detail) for one in reasons
    ]
    print_table(("collection", "sub-job", "file", "run", "cache", "why", "in detail"), cells)


def _place(reason: "FileReason") -> str:
    return f"{reason.calibration}/{reason.iteration}/{reason.collection}"


def _outcome(reason: "FileReason") -> str:
    return "hit" if reason.is_hit else "miss"


def _line_json(line: "ReasonLine") -> dict[str, Any]:
    return {**_reason_json(line.example), "files": line.files, "subjobs": line.subjobs, "example": line.example.file}


def _file_json(reason: "FileReason") -> dict[str, Any]:
    return {
        **_reason_json(reason),
        "subjob": reason.subjob,
        "file": reason.file,
        "exp": reason.run.exp,
        "run": reason.run.run,
    }


def _reason_json(reason: "FileReason") -> dict[str, Any]:
    changes = [
        {"aspect": one.aspect.value, "name": one.name, "before": one.before, "after": one.after}
        for one in reason.changes
    ]
    return {
        "calibration": reason.calibration,
        "iteration": reason.iteration,
        "collection": reason.collection,
        "hit": reason.is_hit,
        "why": reason.why.value,
        "sentence": reason.sentence,
        "detail": reason.detail,
        "changes": changes,
    }


def cache(
    ctx: typer.Context,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what was not used for longest until the rest fits the limit.")
    ] = False,
    limit: Annotated[
        float | None, typer.Option(min=0, metavar="GB", help="Limit; by default that of deployment.yaml.")
    ] = None,
    cache_directory: CacheDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Show how much the collector cache holds and what a clean-up would free, or clean it up."""
    from b2cal_caf.collector_cache import CollectorCache

    found = CollectorCache.existing(cache_directory or home_of(ctx).cache)
    most = round(limit * _GIGABYTE) if limit is not None else None if cache_directory else _configured(ctx)
    if clean and most is None:
        raise WrongUsage("the cache has no limit to be cleaned to; name one with --limit, in GB, 0 to empty it")
    cleaned = found.clean(most) if clean else found.would_clean(most)
    usage = found.usage()
    if as_json:
        print_json(_cache_json(found.directory, usage, most, cleaned, done=clean))
    else:
        _show_cache(found.directory, usage, most, cleaned, done=clean)


def _configured(ctx: typer.Context) -> int | None:
    """The limit of the home's deployment file, in bytes."""
    from resources.deployment import read_deployment

    return read_deployment(home_of(ctx)).collector_cache.limit


def _cache_json(
    directory: Path, usage: "CacheUsage", limit: int | None, cleaned: "Cleaned", *, done: bool
) -> dict[str, Any]:
    return {
        "cache": str(directory),
        "outputs": usage.outputs,
        "bytes": usage.size,
        "index_bytes": usage.index_size,
        "oldest_use": None if usage.oldest_use is None else _time(usage.oldest_use),
        "limit_bytes": limit,
        "cleaned" if done else "would_clean": {
            "outputs": cleaned.outputs,
            "bytes": cleaned.size,
            "shared_bytes": cleaned.shared,
            "strays": cleaned.strays,
            "lost": cleaned.lost,
        },
    }


def _show_cache(directory: Path, usage: "CacheUsage", limit: int | None, cleaned: "Cleaned", *, done: bool) -> None:
    oldest = "" if usage.oldest_use is None else f", the oldest last used {_time(usage.oldest_use)}"
    say(f"{directory}: {usage.outputs} outputs, {_size(usage.size)}{oldest}; index {_size(usage.index_size)}")
    say("it has no limit" if limit is None else f"limit {_size(limit)}")
    verb = "removed" if done else "a clean-up now would remove"
    if limit is not None:
        say(f"{verb} {cleaned.outputs} outputs, {_size(cleaned.size)}; what was used within the last hour stays")
    if cleaned.shared:
        say(f"{_size(cleaned.shared)} of that stay on the disk as long as request directories hold these files too")
    if cleaned.strays or cleaned.lost:
        say(f"{verb} {cleaned.strays} files that no request knows, and {cleaned.lost} entries whose file is gone")


def _size(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")
