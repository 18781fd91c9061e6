"""The search on arrays against the same walk run by run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError
from b2cal_core.impact import BASE, CDST, Sample
from b2cal_core.ranges import IoV, IoVSet
from resources.conditions.schema import edges
from resources.impact.cells import UNKNOWN, Cells, NameCells
from resources.impact.lineages import Lineage
from resources.impact.run_ranges import RunRanges
from resources.impact.search import ImpactSearch

EXP, RUNS = 7, 16
STEPS = {BASE: (), "A": (BASE,), "B": (BASE, "A"), CDST: (BASE, "A", "B"), "C": (BASE, CDST)}
NAMES = {"A": ("a",), "B": ("b", "bb"), "C": ("c",)}


@dataclass(frozen=True)
class Made:
    """A payload: runs it is valid for and was made from, first and last."""

    name: str
    valid: tuple[int, int]
    source: tuple[int, int] | None
    revision: int

    @property
    def read(self) -> set[int]:
        """The runs that count as those it was made from."""
        valid, source = runs(self.valid), runs(self.source) if self.source else set()
        if self.valid[0] in source:
            return source
        ends = valid | source if valid & source else valid
        return runs((min(ends), max(ends)))


def iov(pair: tuple[int, int]) -> IoV:
    return IoV(EXP, pair[0], EXP, pair[1])


def runs(pair: tuple[int, int]) -> set[int]:
    return set(range(pair[0], pair[1] + 1))


def cells(made: Sequence[Made]) -> Cells:
    tables = {}
    for name in {one.name for one in made}:
        rows = [
            (*edges(iov(one.valid)), *(edges(iov(one.source)) if one.source else (UNKNOWN, UNKNOWN)), one.revision)
            for one in made
            if one.name == name
        ]
        tables[name] = NameCells(np.array(rows, dtype=np.int64).reshape(-1, 5))
    return Cells("1", tables)


def lineage(name: str = "prompt", *, base: str = "main", files: Sequence[int] = ()) -> Lineage:
    campaign = Campaign(name=name, catalogue="r", base_tags=(base,), target_tag=f"{name}_target")
    made = cells([Made("cDST", (run, run), (run, run), 1) for run in files])
    return Lineage(campaign, STEPS, NAMES, (campaign.target_tag,), made)


pairs = st.tuples(st.integers(0, RUNS - 1), st.integers(0, RUNS - 1)).map(lambda pair: (min(pair), max(pair)))
payloads = st.lists(
    st.builds(Made, st.sampled_from(["a", "b", "bb", "c"]), pairs, st.none() | pairs, st.just(1)), max_size=25
).map(lambda made: [replace(one, revision=number) for number, one in enumerate(made, 1)])


def by_hand(name: str, change: set[int], made: Sequence[Made], files: Sequence[int]) -> tuple[set[int], set[int]]:
    """The revisions and the runs with cDST files that are affected, step by step and run by run."""
    changed = {one.revision for one in made if one.name == name and runs(one.valid) & change}
    maker = next((step for step, names in NAMES.items() if name in names), BASE)
    affected: dict[str, set[int]] = {maker: set(change)}
    revisions, runs_of_files = set(changed), set[int]()
    everything_before = {"A": [BASE], "B": [BASE, "A"], CDST: [BASE, "A", "B"], "C": [BASE, "A", "B", CDST]}
    for step, before in everything_before.items():
        read = set[int]().union(*(affected.get(other, set()) for other in before))
        if step == CDST:
            runs_of_files = read & set(files)
            affected[CDST] = set(runs_of_files)
            continue
        for one in made:
            if one.name in NAMES[step] and one.read & read:
                revisions.add(one.revision)
                affected.setdefault(step, set()).update(runs(one.valid))
    return revisions, runs_of_files


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["a", "b", "bb", "c"]), pairs, payloads, st.lists(st.integers(0, RUNS - 1), unique=True))
def test_it_finds_what_a_walk_over_single_runs_finds(
    name: str, change: tuple[int, int], made: list[Made], files: list[int]
) -> None:
    table = {"prompt_target": cells(made)}
    # every run has a sample of its own, so that the runs can be told as well
    samples = [Sample(f"run{run}", "prompt_target", iov((run, run))) for run in range(RUNS)]
    search = ImpactSearch([lineage(files=files)], lambda tag: table.get(tag, Cells("", {})), samples)
    found = search.ask(name, iov(change))
    revisions, runs_of_files = by_hand(name, runs(change), made, files)
    expected = {n: sum(one.name == n for one in made if one.revision in revisions) for n in ("a", "b", "bb", "c")}
    assert {line.name: line.cells for line in found.payloads} == {n: count for n, count in expected.items() if count}
    assert sum(line.cells for line in found.cdst) == len(runs_of_files)
    for line in found.payloads:
        whole = [iov(one.valid) for one in made if one.name == line.name and one.revision in revisions]
        assert line.where == IoVSet(whole, allow_overlaps=True).iovs
        assert line.ranges == len(line.where)
    touched = {one.sample.iov.run_low for one in found.samples}
    made_anew = [one for one in made if one.revision in revisions and one.name != name]
    of_itself = [runs(one.valid) & runs(change) for one in made if one.name == name]
    assert touched == set[int]().union(*of_itself, *(runs(one.valid) for one in made_anew))


@given(st.lists(pairs), st.lists(pairs))
def test_ranges_as_arrays_are_those_of_the_core(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    one, other = (RunRanges.of(map(iov, ranges)) for ranges in (some, others))
    assert (one | other).first(99) == IoVSet(map(iov, [*some, *others]), allow_overlaps=True).iovs
    assert bool(one) == bool(some)
    assert (one == other) == (one.first(99) == other.first(99))
    ends = np.array([edges(iov(pair)) for pair in others], dtype=np.int64).reshape(-1, 2)
    touched = one.touches(ends[:, 0], ends[:, 1])
    assert touched.tolist() == [any(runs(pair) & runs(mine) for mine in some) for pair in others]


def test_an_open_range_reaches_every_later_run() -> None:
    forever = RunRanges.of([IoV(3, 5, -1, -1)])
    assert forever.first(1) == (IoV(3, 5, -1, -1),)
    later = RunRanges.of([IoV(9, 0, 9, 1), IoV(1, 0, 2, -1)])
    assert forever.touches(later.starts, later.stops).tolist() == [False, True]
    assert forever != "forever"


BASE_CELLS = cells([Made("Field", (0, 15), None, 1), Made("a", (0, 15), None, 1)])
PROMPT = cells([Made("a", (0, 7), (0, 7), 1), Made("a", (8, 15), (8, 15), 2), Made("b", (0, 7), (0, 7), 1)])


def ask(search_tables: dict[str, Cells], *lineages: Lineage, name: str, change: tuple[int, int], **choice: str):
    search = ImpactSearch(lineages, lambda tag: search_tables.get(tag, Cells("", {})), SAMPLES)
    return search.ask(name, iov(change), **choice)


SAMPLES = [
    Sample("mc", "released", iov((0, 3))),
    Sample("later", "released", iov((12, 15))),
    Sample("old", "main", iov((0, 15))),
]


def test_a_name_that_nobody_makes_changes_in_the_base_tags_and_affects_whatever_read_them() -> None:
    tables = {"main": BASE_CELLS, "prompt_target": PROMPT}
    found = ask(tables, lineage(files=range(16)), name="Field", change=(3, 4))
    assert {(line.name, line.cells, line.through[0]) for line in found.payloads} == {
        ("a", 1, "base tags"),
        ("b", 1, "base tags"),
    }
    # cDST files were made with the payloads of the first eight runs, which were made anew
    assert [(line.cells, line.where) for line in found.cdst] == [(8, (iov((0, 7)),))]
    assert [one.sample.name for one in found.samples] == ["old"]


def test_samples_are_affected_by_what_their_tag_has_taken_over() -> None:
    released = cells([Made("a", (0, 5), None, 1), Made("a", (6, 15), None, 2), Made("c", (0, 15), None, 9)])
    found = ask({"prompt_target": PROMPT, "released": released}, lineage(), name="a", change=(0, 2))
    assert [(one.sample.name, one.names) for one in found.samples] == [("mc", ("a",))]


def test_a_campaign_based_on_what_another_published_is_affected_too_in_whatever_order_they_are_looked_at() -> None:
    again = cells([Made("b", (0, 3), (0, 3), 11), Made("b", (10, 15), (10, 15), 12)])
    tables = {"prompt_target": PROMPT, "again_target": again, "main": BASE_CELLS}
    prompt, second = lineage(), lineage("again", base="prompt_target")
    for order in ([prompt, second], [second, prompt]):
        found = ask(tables, *order, name="a", change=(0, 1), campaign="prompt")
        lines = {(line.campaign, line.name): (line.cells, line.through) for line in found.payloads}
        assert lines == {
            ("prompt", "a"): (1, ()),
            ("prompt", "b"): (1, ("A",)),
            ("again", "b"): (1, ("base tags",)),
        }


def test_campaigns_based_on_each_other_come_to_an_end() -> None:
    tables = {"prompt_target": PROMPT, "again_target": cells([Made("a", (0, 7), (0, 7), 21)])}
    found = ask(
        tables,
        lineage(base="again_target"),
        lineage("again", base="prompt_target"),
        name="b",
        change=(0, 0),
        campaign="prompt",
    )
    assert {(line.campaign, line.name) for line in found.payloads} == {
        ("prompt", "a"),
        ("prompt", "b"),
        ("again", "a"),
    }


@pytest.mark.parametrize("choice", [{}, {"campaign": "prompt"}])
def test_a_name_that_nobody_knows_is_refused(choice: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="'nonsense'"):
        ask({"main": BASE_CELLS}, lineage(), name="nonsense", change=(0, 1), **choice)
