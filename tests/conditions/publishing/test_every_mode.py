"""Random staging tags in every mode, as readers see them."""

from hypothesis import given, settings
from hypothesis import strategies as st
from published_tags import RELEASE, START, VALIDATED, Line, actions, answers, fill

from b2cal_core.payloads import TagState
from b2cal_core.publishing import UpdateMode, UpdateRefused
from b2cal_core.ranges import ExpRun
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher

GRID = [ExpRun(exp, run) for exp in (1, 2) for run in (0, 3, 6)]


@st.composite
def staging_lines(draw) -> list[Line]:
    lines = []
    for name in sorted(draw(st.sets(st.sampled_from(["p1", "p2", "p3"]), min_size=1))):
        starts = sorted(draw(st.sets(st.integers(0, len(GRID) - 1), min_size=1, max_size=3)))
        is_open = draw(st.booleans())
        for position, start in enumerate(starts):
            low = GRID[start]
            if position + 1 < len(starts):
                stop = GRID[starts[position + 1]]
                end = f"{stop.exp},{stop.run - 1}" if stop.run else f"{stop.exp - 1},-1"
            else:
                end = "-1,-1" if is_open else f"{low.exp},-1"
            lines.append((name, f"{name} {position}", f"{low.exp},{low.run},{end}"))
    return lines


@settings(max_examples=12, deadline=None)
@given(lines=staging_lines(), mode=st.sampled_from([m for m in UpdateMode if m is not UpdateMode.simple]))
def test_after_a_publish_readers_see_the_staging_tag_and_before_the_first_run_what_was(
    tmp_path_factory, lines, mode
) -> None:
    root = tmp_path_factory.mktemp("property")
    conditions = EmbeddedConditionsDB(root / "conditions")
    fill(conditions, "prompt", START, TagState.RUNNING, files=root)
    fill(conditions, "staging", lines, *VALIDATED, files=root)
    publisher = Publisher(conditions)
    past = ExpRun(0, 99)
    was = answers(conditions, "prompt", past)
    try:
        document = publisher.plan_update("prompt", "staging", first_run=GRID[0], mode=mode)
    except UpdateRefused:
        assert "apply" not in actions(conditions, "prompt")
        return
    publisher.apply(document, RELEASE)
    assert conditions.fingerprint("prompt") == document.predicted
    assert answers(conditions, "prompt", past) == was
    for run in GRID:
        assert answers(conditions, "staging", run).items() <= answers(conditions, "prompt", run).items()
    publisher.rollback(document, RELEASE)
    assert conditions.fingerprint("prompt") == document.fingerprint
