from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.graphs import weight_behind


@st.composite
def weighted_graphs(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Each name may need some of those before it."""
    names = [f"n{number}" for number in range(draw(st.integers(0, 7)))]
    needs = {n: draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else [] for i, n in enumerate(names)}
    return needs, {name: draw(st.integers(0, 9)) for name in names}


def ways_from(name: str, needs: Mapping[str, list[str]], weights: Mapping[str, int]) -> list[int]:
    """The weights of all ways from a name to an end, one by one."""
    further = [other for other, needed in needs.items() if name in needed]
    return [weights[other] + way for other in further for way in ways_from(other, needs, weights)] or [0]


@given(weighted_graphs())
def test_the_weight_behind_a_name_is_that_of_the_heaviest_way_to_an_end(
    graph: tuple[dict[str, list[str]], dict[str, int]],
) -> None:
    needs, weights = graph
    assert weight_behind(needs, weights) == {name: max(ways_from(name, needs, weights)) for name in needs}


def test_a_name_that_is_needed_but_not_there_is_passed_over() -> None:
    assert weight_behind({"a": ["outside"], "b": ["a"]}, {"a": 1, "b": 2}) == {"a": 2, "b": 0}
