"""The cells of a bucket, one per asset: how each stands, why it is not made, and what mends that.

Nothing here knows assets or databases: cells have names, and need other cells.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from b2cal_core.graphs import topological_order

_COMMAND = re.compile(r"b2cal [^;]+$")


class CellState(StrEnum):
    """How a cell stands: ``waits`` is for other cells, ``blocked`` for people."""

    made = "made"
    running = "running"
    can_start = "can start"
    queued = "queued"
    waits = "waits"
    blocked = "blocked"
    failed = "failed"
    stale = "stale"


_IN_WORDS = {
    CellState.running: "is being made",
    CellState.can_start: "can start",
    CellState.queued: "is queued",
    CellState.blocked: "is blocked",
    CellState.failed: "failed",
    CellState.stale: "is to be made again",
}


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What is known of a cell.

    Attributes:
        needs: names of the cells that must be made before; names that are no cell are passed over.
        is_there: it was made at some time.
        is_lacking: it is to be made, for the first time or again.
        outdated: why what is there should be made again.
        shut: why its gate is shut; of what was made, why it lets nothing through.
        queued: where work that can start waits for its turn; empty when it does not.
        held: why nothing starts by itself, though it could.
        failure: how the last attempt failed, since it was made last.
        redo: the command that makes it again.
        start: the command that makes it, when nothing hinders.
    """

    name: str
    needs: tuple[str, ...] = ()
    is_there: bool = False
    is_lacking: bool = True
    is_running: bool = False
    outdated: tuple[str, ...] = ()
    shut: tuple[str, ...] = ()
    queued: str = ""
    held: tuple[str, ...] = ()
    failure: str = ""
    redo: str = ""
    start: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """How a cell stands; ``command`` is what a person types to bring it further, or empty."""

    name: str
    state: CellState
    reasons: tuple[str, ...] = ()
    command: str = ""


def judge_cells(facts: Iterable[CellFacts]) -> tuple[Cell, ...]:
    """The cells in the order given.

    A cell that waits names those at the root of its waiting: the nearest before it that do not only wait themselves.

    Raises:
        CycleError: cells need each other in a circle.
    """
    known = {fact.name: fact for fact in facts}
    cells: dict[str, Cell] = {}
    roots: dict[str, tuple[str, ...]] = {}
    for name in topological_order({name: fact.needs for name, fact in known.items()}):
        fact = known[name]
        lacking = [need for need in fact.needs if need in known and known[need].is_lacking]
        roots[name] = tuple(dict.fromkeys(root for need in lacking for root in roots[need] or (need,)))
        cells[name] = _own(fact, waits=bool(lacking)) or _waiting(name, roots[name], cells)
        if cells[name].state is not CellState.waits:
            roots[name] = ()
    return tuple(cells[name] for name in known)


def _own(fact: CellFacts, *, waits: bool) -> Cell | None:
    """How the cell stands by itself; ``None`` when it only waits for others."""
    if fact.is_running:
        return Cell(fact.name, CellState.running)
    if fact.failure and fact.is_lacking:
        return Cell(fact.name, CellState.failed, (fact.failure,), fact.start)
    if fact.is_there and fact.outdated:
        return Cell(fact.name, CellState.stale, fact.outdated, fact.redo)
    if not fact.is_lacking:
        return _blocked(fact.name, fact.shut) if fact.shut else Cell(fact.name, CellState.made)
    return None if waits else _next(fact)


def _next(fact: CellFacts) -> Cell:
    """A cell whose needs are made."""
    if fact.queued and not fact.shut:
        return Cell(fact.name, CellState.queued, (fact.queued,), command_in([fact.queued]))
    hindrances = fact.shut or fact.held
    return _blocked(fact.name, hindrances) if hindrances else Cell(fact.name, CellState.can_start, (), fact.start)


def _blocked(name: str, reasons: tuple[str, ...]) -> Cell:
    return Cell(name, CellState.blocked, reasons, command_in(reasons))


def _waiting(name: str, roots: Sequence[str], cells: Mapping[str, Cell]) -> Cell:
    reasons = tuple(f"waits for {root}, which {_IN_WORDS[cells[root].state]}" for root in roots)
    commands = (cells[root].command for root in roots)
    return Cell(name, CellState.waits, reasons, next(filter(None, commands), ""))


def command_in(sentences: Iterable[str]) -> str:
    """The command at the end of the first sentence that has one, since reasons end with what is to be done."""
    found = (match.group() for sentence in sentences if (match := _COMMAND.search(sentence)))
    return next(found, "")
