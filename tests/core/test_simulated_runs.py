from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.simulated_runs import runs_without_constants

NAMES = ("A", "B")
links = st.builds(
    lambda name, first, length: TagIov(name, 1, IoV(0, first, 0, first + length)),
    st.sampled_from((*NAMES, "other")),
    st.integers(0, 6),
    st.integers(0, 3),
)


def test_a_run_that_lacks_a_payload_is_told_with_what_it_lacks() -> None:
    base = [TagIov("A", 1, IoV(0, 0, 0, 5)), TagIov("B", 1, IoV(0, 0, -1, -1))]
    target = [TagIov("A", 2, IoV(0, 7, -1, -1))]
    runs = [ExpRun(0, run) for run in (8, 6, 5, 6)]
    assert runs_without_constants(runs, ["B", "A", "C"], [base, target]) == {
        ExpRun(0, 5): ("C",),
        ExpRun(0, 6): ("A", "C"),
        ExpRun(0, 8): ("C",),
    }
    assert runs_without_constants(runs, ["B"], [base, target]) == {}


@given(st.lists(st.lists(links, max_size=4), max_size=3), st.lists(st.integers(0, 9), max_size=5))
def test_a_run_has_its_constants_when_any_tag_has_a_link_for_it(chain: list[list[TagIov]], numbers: list[int]) -> None:
    runs = [ExpRun(0, number) for number in numbers]
    found = runs_without_constants(runs, NAMES, chain)
    for run in runs:
        has = {link.name for tag in chain for link in tag if link.iov.contains(run)}
        assert set(found.get(run, ())) == set(NAMES) - has
