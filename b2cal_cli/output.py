"""How commands answer: tables and sentences for people, JSON for machines, progress on the error stream."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
"""The option that every command with an answer has."""


def print_json(value: Any) -> None:  # noqa: ANN401 (whatever JSON can hold)
    """The value as JSON, alone on the standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", empty: str = "none"
) -> None:
    """A table; where the output is no terminal it is as wide as it must be, so that nothing is cut off."""
    from rich import box
    from rich.table import Table

    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        say(empty)
        return
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*row)
    answers().print(table)


def say(text: str) -> None:
    """A line of the answer, exactly as it is."""
    answers().print(text, markup=False, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """A line about the work, on the error stream."""
    progress().print(text, markup=False, highlight=False, soft_wrap=True)


def answers() -> "Console":
    """Writes to the standard output."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 240, highlight=False)


def progress() -> "Console":
    """Writes to the error stream."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else 240, highlight=False)


@contextmanager
def counted_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how many of how many are done: a bar on a terminal, elsewhere a line at every tenth part.

    Yields:
        To be called with the number done and the number of all.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    if not sys.stderr.isatty():
        yield _LineProgress(what)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress(), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


class _LineProgress:
    """Progress as lines; ``shown`` is the last tenth that was told."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = -1

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total if total else 10
        if tenth != self._shown:
            self._shown = tenth
            tell(f"{self._what}: {done} of {total}")


def _cell(value: object) -> str:
    from rich.markup import escape

    return escape(f"{value:.3g}" if isinstance(value, float) else str(value))
