"""``b2cal caf jobs|log|retry|release|exclude|cancel``: sub-jobs of a request, seen and acted upon by people."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2cal_cli.batch_systems import batch_of
from b2cal_cli.cdb_answers import author_of
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage
from b2cal_core.errors import CalibrationError

if TYPE_CHECKING:
    from b2cal_caf.job_book import JobRow
    from b2cal_caf.operations import CafDesk
    from b2cal_core.ports import BatchBackend

RequestDirectory = Annotated[
    Path, typer.Argument(metavar="DIR", help="Working directory of a request, also while it runs.")
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="Sub-jobs, as `b2cal caf jobs` names them: CALIBRATION[/ITERATION[/COLLECTION[/N]]]."
    ),
]
Who = Annotated[str | None, typer.Option("--author", help="Who does it, for the log; by default you.")]

_SHOWN = 50
_ASKED = 100


def jobs(
    ctx: typer.Context,
    directory: RequestDirectory,
    name: Names = None,
    stage: Annotated[list[str] | None, typer.Option(help="Only those: waiting, running, held, failed …")] = None,
    every: Annotated[bool, typer.Option("--all", help="List all of them; otherwise those with trouble.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how many sub-jobs stand where, and those that failed, are held, or were tried again, with the cause."""
    desk = _desk(directory)
    rows = desk.jobs(name or (), _stages(stage))
    if not (every or stage or name):
        rows = [row for row in rows if row.cause is not None or row.troubles]
    waiting = _why_waiting(ctx, desk)
    if as_json:
        answer = {"attended_by": desk.attended_by, "counts": _counts(desk), "waiting": waiting}
        print_json({**answer, "jobs": [_fields(row) for row in rows]})
        return
    _show_counts(desk)
    for why, number in waiting.items():
        say(f"{number} submitted: {why}")
    cells = [_cells(row) for row in (rows if every else rows[:_SHOWN])]
    columns = ("sub-job", "stage", "attempt", "memory", "cause", "machine", "why")
    print_table(columns, cells, title="sub-jobs", empty="no sub-job failed or is held")
    if len(cells) < len(rows):
        say(f"and {len(rows) - len(cells)} more; --all lists them")
    for one in desk.exclusions().values():
        say(f"{one.file} is left out by {one.who}: {one.reason}")


def log(
    directory: RequestDirectory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A sub-job: CALIBRATION/ITERATION/COLLECTION/N.")],
    attempt: Annotated[int | None, typer.Option(min=0, help="Which attempt; by default the last.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a sub-job wrote."""
    found = _desk(directory).log(name, attempt)
    if as_json:
        print_json({"name": name, "attempt": found.attempt, "stdout": found.stdout, "stderr": found.stderr})
        return
    say(f"{name}, attempt {found.attempt}")
    for what, text in (("output", found.stdout), ("errors", found.stderr)):
        say(f"--- {what}" if text else f"--- no {what}")
        if text:
            say(text.rstrip("\n"))


def retry(directory: RequestDirectory, name: Names = None, author: Who = None) -> None:
    """Try failed sub-jobs again, or those named; what was tried before does not count."""
    desk = _desk(directory)
    _answer(desk, desk.retry(name or (), author_of(author)), "to be tried again")


def release(directory: RequestDirectory, name: Names = None, author: Who = None) -> None:
    """Let held sub-jobs go on."""
    desk = _desk(directory)
    _answer(desk, desk.release(name or (), author_of(author)), "to be released")


def exclude(
    directory: RequestDirectory,
    file: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Input files.")],
    reason: Annotated[str, typer.Option(help="Why; it is logged.")],
    author: Who = None,
) -> None:
    """Leave input files out of the request; what was collected from others is kept."""
    if not reason.strip():
        raise WrongUsage("say why the files are left out, with --reason")
    desk = _desk(directory)
    desk.exclude([str(one.absolute()) for one in file], reason, author_of(author))
    _say_when(desk, f"{len(file)} files left out")


def cancel(ctx: typer.Context, directory: RequestDirectory, name: Names = None, author: Who = None) -> None:
    """End sub-jobs; without a name the work on the whole request. The same request again resumes it."""
    desk = _desk(directory)
    ended = desk.cancel(name or (), author_of(author), _batch(ctx, desk))
    _answer(desk, ended, "to be ended" if desk.attended_by else "ended")


def register(app: typer.Typer) -> None:
    """Add the commands to ``b2cal caf``."""
    for command in (jobs, log, retry, release, exclude, cancel):
        app.command()(command)


def _desk(directory: Path) -> "CafDesk":
    from b2cal_caf.operations import CafDesk

    return CafDesk(directory)


def _batch(ctx: typer.Context, desk: "CafDesk") -> "BatchBackend":
    """The batch system that the request's jobs are at."""
    from resources.batch.job_directories import backend_of

    kinds = (backend_of(row.directory) for row in desk.jobs() if row.stage.is_at_batch)
    return batch_of(ctx, next((kind for kind in kinds if kind is not None), "local"))


def _why_waiting(ctx: typer.Context, desk: "CafDesk") -> dict[str, int]:
    """Why sub-jobs have not been started, as the batch system says now, and how many of the first hundred it is."""
    from b2cal_caf.job_book import Stage
    from resources.batch.job_directories import backend_of

    rows = [row for row in desk.jobs(stages=[Stage.submitted]) if row.native_id][:_ASKED]
    kind = backend_of(rows[0].directory) if rows else None
    if kind is None:
        return {}
    try:
        reasons = batch_of(ctx, kind).why_waiting([row.native_id for row in rows])
    except CalibrationError as error:  # what is in the book is shown all the same
        return {str(error): len(rows)}
    return dict(Counter(reasons.values()))


def _stages(given: Sequence[str] | None) -> Any:  # noqa: ANN401 (stages load late)
    from b2cal_caf.job_book import Stage

    try:
        return [Stage(word) for word in given] if given else list(Stage)
    except ValueError as error:
        raise WrongUsage(f"--stage: {error}; it is one of {', '.join(Stage)}") from error


def _counts(desk: "CafDesk") -> list[dict[str, Any]]:
    return [
        {"calibration": calibration, "iteration": iteration, "collection": collection}
        | {stage.value: number for stage, number in counts.items()}
        for (calibration, iteration, collection), counts in desk.counts().items()
    ]


def _show_counts(desk: "CafDesk") -> None:
    from b2cal_caf.job_book import Stage

    columns = ("calibration", "iteration", "collection", *Stage)
    rows = [(*place, *(counts.get(stage, 0) for stage in Stage)) for place, counts in desk.counts().items()]
    print_table(columns, rows, title=f"worked on by {desk.attended_by or 'nobody at the moment'}", empty="no sub-jobs")


def _fields(row: "JobRow") -> dict[str, Any]:
    return {
        "name": row.name,
        "stage": row.stage,
        "attempt": row.attempt,
        "native_id": row.native_id,
        "memory": row.trial.memory,
        "seconds": row.trial.seconds,
        "avoid": list(row.trial.avoid),
        "peak_memory": row.peak_memory,
        "troubles": dict(row.troubles),
        "cause": row.cause,
        "reason": row.reason,
        "host": row.host,
        "files": row.files,
        "directory": str(row.directory),
    }


def _cells(row: "JobRow") -> tuple[object, ...]:
    tried = ", ".join(f"{count} for {cause}" for cause, count in row.troubles.items())
    attempt = f"{row.attempt} ({tried})" if tried else row.attempt
    return (row.name, row.stage, attempt, f"{row.trial.memory} MB", row.cause or "", row.host, row.reason)


def _answer(desk: "CafDesk", rows: "Sequence[JobRow]", what: str) -> None:
    _say_when(desk, f"{len(rows)} sub-jobs {what}")


def _say_when(desk: "CafDesk", what: str) -> None:
    who = desk.attended_by
    say(f"{what}; {who} takes it up" if who else f"{what}; nobody works on the request now, the next run takes it up")
