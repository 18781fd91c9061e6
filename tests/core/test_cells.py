"""Every cell of a bucket has a state, and one that is not made says what brings it further."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.cells import CellFacts, CellState, command_in, judge_cells
from b2cal_core.graphs import CycleError

MADE = CellFacts("a", is_there=True, is_lacking=False)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (MADE, "made"),
        (CellFacts("a", start="b2cal bucket run"), "can start"),
        (CellFacts("a", held=("paused by ada: b2cal campaign resume c",)), "blocked"),
        (CellFacts("a", queued="waits in a queue: b2cal up", held=("paused by ada",)), "queued"),
        (CellFacts("a", queued="waits in a queue: b2cal up", shut=("rejected",)), "blocked"),
        (replace(MADE, queued="waits in a queue", held=("paused by ada",)), "made"),
        (CellFacts("a", is_running=True, failure="no disk"), "running"),
        (CellFacts("a", failure="no disk", shut=("rejected",)), "failed"),
        (replace(MADE, failure="no disk"), "made"),
        (replace(MADE, shut=("rejected by ada: b2cal bucket run c b --only a",)), "blocked"),
        (CellFacts("a", shut=("ask ada: b2cal signoff accept x",)), "blocked"),
        (replace(MADE, outdated=("made from other constants",)), "stale"),
        (replace(MADE, is_lacking=True, outdated=("made from other constants",), shut=("wait",)), "stale"),
        (CellFacts("a", outdated=("made from other constants",)), "can start"),
    ],
)
def test_a_cell_stands_in_one_state(facts: CellFacts, state: str) -> None:
    (cell,) = judge_cells([facts])
    assert cell.state == state


def test_a_failed_cell_says_how_and_what_to_do() -> None:
    (cell,) = judge_cells([CellFacts("a", failure="the disk is full", start="b2cal bucket run c b")])
    assert (cell.reasons, cell.command) == (("the disk is full",), "b2cal bucket run c b")


def test_what_is_held_or_queued_says_why_and_what_waits_for_it_how_it_stands() -> None:
    held, queued = ("paused by ada: b2cal campaign resume c",), "waits in a queue: b2cal up"
    a, b, c, d = judge_cells(
        [CellFacts("a", held=held), CellFacts("b", needs=("a",)), CellFacts("c", queued=queued), CellFacts("d", ("c",))]
    )
    assert (a.reasons, a.command) == (held, "b2cal campaign resume c")
    assert (b.reasons, b.command) == (("waits for a, which is blocked",), a.command)
    assert (c.reasons, c.command) == ((queued,), "b2cal up")
    assert (d.state, d.reasons, d.command) == ("waits", ("waits for c, which is queued",), "b2cal up")


def test_a_cell_that_waits_names_the_root_of_its_waiting_and_its_command() -> None:
    chain = [
        CellFacts("c", needs=("b", "d", "elsewhere")),
        CellFacts("b", needs=("a",)),
        CellFacts("a", shut=("ask ada: b2cal signoff accept x",)),
        CellFacts("d", needs=("a",), is_running=True),
    ]
    c, b, a, _ = judge_cells(chain)
    assert b.reasons == ("waits for a, which is blocked",)
    assert c.reasons == ("waits for a, which is blocked", "waits for d, which is being made")
    assert c.command == b.command == a.command == "b2cal signoff accept x"


def test_a_shut_gate_behind_a_cell_that_is_not_made_is_no_reason_yet() -> None:
    _, later = judge_cells([CellFacts("a"), CellFacts("b", needs=("a",), shut=("a has no payloads",))])
    assert later.state is CellState.waits


def test_cells_in_a_circle_are_refused() -> None:
    with pytest.raises(CycleError, match="a -> b -> a"):
        judge_cells([CellFacts("a", needs=("b",)), CellFacts("b", needs=("a",))])


def test_a_command_is_the_end_of_a_sentence() -> None:
    assert command_in(["nothing to type", "redo it: b2cal bucket run c b --only x"]) == "b2cal bucket run c b --only x"
    assert command_in(["look at b2cal runs list; then mend the filters"]) == ""
    assert command_in([]) == ""


@st.composite
def buckets(draw: st.DrawFn) -> list[CellFacts]:
    """Cells that need earlier ones, in any state that can be."""
    facts: list[CellFacts] = []
    texts = st.sampled_from([(), ("because: b2cal x",)])
    for number in range(draw(st.integers(0, 8))):
        needs = tuple(f.name for f in facts if draw(st.booleans()))
        lacking, there = draw(st.sampled_from([(True, False), (True, True), (False, True)]))
        facts.append(
            CellFacts(
                str(number),
                needs,
                is_there=there,
                is_lacking=lacking,
                is_running=draw(st.booleans()),
                outdated=draw(texts),
                shut=draw(texts),
                queued=draw(st.sampled_from(["", "waits in a queue"])),
                held=draw(texts),
                failure=draw(st.sampled_from(["", "broken"])),
            )
        )
    return facts


@given(buckets(), st.randoms())
def test_states_do_not_depend_on_the_order_and_whoever_waits_waits_for_somebody(facts, random) -> None:
    cells = {cell.name: cell for cell in judge_cells(facts)}
    shuffled = random.sample(facts, len(facts))
    assert {c.name: c.state for c in judge_cells(shuffled)} == {name: c.state for name, c in cells.items()}
    for cell in cells.values():
        if cell.state is CellState.waits:
            assert cell.reasons
            assert not any("which waits" in reason for reason in cell.reasons)
        if cell.state in {CellState.blocked, CellState.failed, CellState.stale}:
            assert cell.reasons
