"""What a tag holds: no overlaps, no gaps, merges, the highest revision, round trips, and any order of uploads."""

import random
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from grid import ALWAYS, EDGES, NAMES, POINTS, TEXTS, Answers, Line, answers_of, contents, iovs, moderate, publishes
from hypothesis import given
from hypothesis import strategies as st
from worlds import RELEASE, Case, World, attempt

from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import ConflictError
from b2cal_core.hsf_iovs import from_hsf, to_hsf
from b2cal_core.payloads import TagState
from b2cal_core.publishing import TagIov, UpdateMode, UpdateRefused, merge_tags
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_reports import coverage
from resources.conditions.publisher import Publisher
from resources.conditions.schema import LARGEST
from resources.conditions.sqlite_export import export_sqlite
from resources.conditions.sqlite_file import SqliteMetadata
from resources.conditions.sqlite_import import import_sqlite

anything = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(TEXTS), iovs()), min_size=1, max_size=4)
some_points = st.lists(st.sampled_from(POINTS), min_size=3, max_size=3)


def clashing(links: Sequence[TagIov]) -> list[tuple[TagIov, TagIov]]:
    """The pairs of one name that share a run."""
    return [(a, b) for a, b in combinations(links, 2) if a.name == b.name and a.iov.overlaps(b.iov)]


@given(lines=anything)
@moderate(20)
def test_i01_an_overlap_is_refused_with_names_and_runs(world: World, lines: list[Line]) -> None:
    case = world.case()
    tag, local = case.make(), case.local(lines)
    overlaps = clashing([TagIov(name, 0, iov) for name, _, iov in lines])
    names = {one.name for one in local}
    if not overlaps:
        world.conditions.replace_iovs(tag, names, local)
        assert not clashing(world.conditions.list_iovs(tag))
        return
    before = world.conditions.fingerprint(tag)
    with pytest.raises(ConflictError) as refused:
        world.conditions.replace_iovs(tag, names, local)
    for name in {one.name for one, _ in overlaps}:
        named = [str(iov) for pair in overlaps if pair[0].name == name for iov in (pair[0].iov, pair[1].iov)]
        assert case.name(name) in str(refused.value)
        assert any(iov in str(refused.value) for iov in named)
    assert world.conditions.fingerprint(tag) == before


@given(lines=anything)
@moderate(15)
def test_i01_a_staging_tag_with_overlaps_is_not_published(world: World, lines: list[Line]) -> None:
    case = world.case()
    target = case.make(state=TagState.RUNNING)
    staging = overlapping_tag(case, [(name, text, iov) for name, text, iov in lines])
    case.bring(staging, TagState.VALIDATED)
    overlaps = clashing(world.conditions.list_iovs(staging))
    before = world.conditions.fingerprint(target)
    publisher = Publisher(world.conditions)
    planning = partial(publisher.plan_update, target, staging, first_run=ExpRun(0, 0), mode=UpdateMode.allow_closed)
    if overlaps:
        with pytest.raises(UpdateRefused) as refused:
            planning()
        assert refused.value.reasons["overlaps"] > 0
        assert {one.name for one, _ in overlaps} <= set(re.findall(r"[pq]\d+", str(refused.value)))
        assert world.conditions.fingerprint(target) == before
    elif (refusal := attempt(planning)) is None:
        case.vouch(staging)
        publisher.apply(planning(), RELEASE)
        assert not clashing(world.conditions.list_iovs(target))
    else:
        assert isinstance(refusal, UpdateRefused)
        assert "overlaps" not in refusal.reasons


@given(case_of=publishes())
@moderate(20)
def test_i01_no_publish_leaves_an_overlap(
    world: World, case_of: tuple[list[Line], list[Line], ExpRun, UpdateMode]
) -> None:
    running, staged, first, mode = case_of
    case = world.case()
    target = case.make(running, TagState.RUNNING)
    staging = case.make(staged, TagState.VALIDATED, vouched=True)
    try:
        plan = case.update(target, staging, first, mode)
    except UpdateRefused:
        return
    world.conditions.apply(plan, RELEASE)
    assert not clashing(world.conditions.list_iovs(target))


@st.composite
def with_a_hole(draw: st.DrawFn) -> tuple[list[Line], IoV]:
    """The payloads of one name from the first run on, one of them taken out of the middle; and what is missing."""
    later = st.lists(st.sampled_from(EDGES[1:]), min_size=2, max_size=4, unique=True)
    cuts = [(0, 0), *sorted(draw(later))]
    pieces = [IoV.of_edges(start, stop) for start, stop in pairwise(cuts)] + [IoV(*cuts[-1], -1, -1)]
    hole = pieces.pop(draw(st.integers(1, len(pieces) - 2)))
    return [("p", TEXTS[i % 3], iov) for i, iov in enumerate(pieces)], hole


@given(drawn=with_a_hole())
@moderate(12)
def test_i02_a_gap_is_found_and_named_and_one_without_runs_is_no_alarm(
    world: World, drawn: tuple[list[Line], IoV]
) -> None:
    lines, hole = drawn
    case = world.case()
    target = case.make(state=TagState.RUNNING)
    staging = case.make(lines, TagState.VALIDATED, vouched=True)
    with pytest.raises(UpdateRefused) as refused:
        Publisher(world.conditions).plan_update(target, staging, first_run=ExpRun(0, 0), mode=UpdateMode.strict)
    assert refused.value.reasons == {"gaps": 1}
    assert case.name("p") in str(refused.value)
    assert str(hole) in str(refused.value)
    links = world.conditions.list_iovs(staging)
    inside = [run for run in POINTS if hole.contains(run)]
    outside = [run for run in POINTS if not hole.contains(run)]
    (found,) = coverage(links, ALWAYS, runs=POINTS)
    assert (found.gaps, found.missing_runs) == ((hole,), tuple(inside))
    (found,) = coverage(links, ALWAYS, runs=outside)
    assert (found.gaps, found.missing_runs) == ((hole,), ())


@given(lines=contents())
@moderate(12)
def test_i02_a_set_without_an_open_end_is_not_published_where_one_is_asked_for(world: World, lines: list[Line]) -> None:
    case = world.case()
    target = case.make(state=TagState.RUNNING)
    staging = case.make([*lines, ("r", "1", IoV(0, 0, 2, 3))], TagState.VALIDATED)
    with pytest.raises(UpdateRefused) as refused:
        Publisher(world.conditions).plan_update(target, staging, first_run=ExpRun(0, 0), mode=UpdateMode.strict)
    ends = {name: max(iov for other, _, iov in lines if other == name) for name, _, _ in lines}
    assert refused.value.reasons["closed payloads"] == 1 + sum(not iov.is_open for iov in ends.values())


@given(chain=st.lists(contents(), min_size=2, max_size=3), within=iovs(), runs=some_points)
@moderate(12)
def test_i14_a_merge_answers_as_the_chain_does(
    world: World, chain: list[list[Line]], within: IoV, runs: list[ExpRun]
) -> None:
    case = world.case()
    sources = [case.make(lines) for lines in chain]
    merged = case.make()
    publisher = Publisher(world.conditions)
    publisher.apply(publisher.plan_merge(merged, sources, within=within), RELEASE)
    expected: Answers = {}
    for lines in reversed(chain):  # the first has the highest priority
        for name, found in answers_of(lines).items():
            expected.setdefault(name, {}).update({run: text for run, text in found.items() if within.contains(run)})
    assert case.answers(merged) == {name: found for name, found in expected.items() if found}
    for run in runs:
        through_chain = case.look_up(list(reversed(sources)), run) if within.contains(run) else {}
        assert case.look_up([merged], run) == through_chain


A = [
    ("p", "2", IoV(1, 0, 1, 10)),
    ("p", "3", IoV(1, 20, 1, 22)),
    ("q", "1", IoV(1, 0, 1, -1)),
]
B = [("p", "1", IoV(1, 1, 1, 30)), ("q", "2", IoV(0, 1, 1, 20))]
MERGED = {
    ("p", "2", "1,0,1,10"),
    ("p", "1", "1,11,1,19"),
    ("p", "3", "1,20,1,22"),
    ("p", "1", "1,23,1,30"),
    ("q", "2", "0,1,0,-1"),
    ("q", "1", "1,0,1,-1"),
}
CLIPPED = {("p", "2", "1,0,1,10"), ("p", "1", "1,11,1,19"), ("p", "3", "1,20,1,21"), ("q", "1", "1,0,1,21")}


@pytest.mark.parametrize(("within", "expected"), [(None, MERGED), (IoV(1, 0, 1, 21), CLIPPED)], ids=["all", "clipped"])
def test_i14_the_golden_example_of_a_merge(
    world: World, within: IoV | None, expected: set[tuple[str, str, str]]
) -> None:
    """Source: merge of global tags in the Belle II tools; revisions and contents have the same numbers."""
    case = world.case()
    for number in "123":
        world.conditions.put_payloads([(case.name(name), world.file(number)) for name in ("p", "q")])
    sources, merged = [case.make(lines) for lines in (A, B)], case.make()
    publisher = Publisher(world.conditions)
    publisher.apply(publisher.plan_merge(merged, sources, within=within), RELEASE)
    links = world.conditions.list_iovs(merged)
    assert {(case.short(link.name), str(link.revision), str(link.iov)) for link in links} == expected


def overlapping_tag(case: Case, lines: list[Line]) -> str:
    """An OPEN tag as old tools may have left it, with two payloads for one run."""
    tag, truth = case.make(), case.world.truth
    stored = truth.put_payloads([(case.name(name), case.world.file(text)) for name, text, _ in lines])
    links = [TagIov(one.name, one.revision, iov) for one, (_, _, iov) in zip(stored, lines, strict=True)]
    truth.add_iovs(tag, links, allow_overlaps=True)
    return tag


@given(lines=anything, runs=some_points)
@moderate(15)
def test_i15_of_overlapping_payloads_every_reader_gets_the_highest_revision(
    world: World, lines: list[Line], runs: list[ExpRun]
) -> None:
    case = world.case()
    tag = overlapping_tag(case, lines)
    ranks: dict[str, list[str]] = {name: [] for name in NAMES}
    for name, text, _ in lines:
        ranks[name] += [text] if text not in ranks[name] else []
    expected: dict[ExpRun, dict[str, str]] = {}
    for run in POINTS:
        valid = [(name, text) for name, text, iov in lines if iov.contains(run)]
        expected[run] = dict(sorted(valid, key=lambda one: ranks[one[0]].index(one[1])))
    links = world.conditions.list_iovs(tag)
    assert {run: case.answers_in(merge_tags([links], IoV(*run, *run))) for run in POINTS} == {
        run: {name: {run: text} for name, text in found.items()} for run, found in expected.items()
    }
    for run in runs:
        assert case.look_up([tag], run) == expected[run]


def test_i15_an_export_of_overlapping_payloads_has_the_highest_revision_only(world: World, tmp_path: Path) -> None:
    case = world.case()
    tag = overlapping_tag(case, [("p", "1", IoV(0, 0, 0, 3)), ("p", "2", IoV(0, 2, 0, 5)), ("p", "1", IoV(0, 5, 1, 0))])
    local = LocalDatabase(world.conditions.export([tag], tmp_path / "out", within=ALWAYS))
    found = {run: local.find(case.name("p"), ExpRun(*run)) for run in [(0, 1), (0, 2), (0, 3), (0, 5), (1, 0), (1, 1)]}
    texts = [one.file.read_text() if one else None for one in found.values()]
    assert texts == ["1", "2", "2", "2", "1", None]


special = st.sampled_from([0, 1, 2, 5, 1000, LARGEST - 1, LARGEST])


@st.composite
def special_iovs(draw: st.DrawFn) -> IoV:
    """IoVs with the ends that go wrong elsewhere: run 0 and 1, -1, the largest numbers."""
    first = draw(special), draw(special)
    last = draw(special), draw(special)
    kind = draw(st.sampled_from(["closed", "rest of the experiment", "open"]))
    if kind == "open":
        return IoV(*first, -1, -1)
    low, high = sorted([first, last])
    return IoV(*low, *high) if kind == "closed" else IoV(*low, high[0], -1)


@given(iov=special_iovs())
@moderate(25)
def test_i16_an_iov_comes_back_as_it_was_written_from_every_form(
    world: World, tmp_path_factory: pytest.TempPathFactory, iov: IoV
) -> None:
    """Tables, listing, look-up at both ends, JSON of plans, text of a testing storage, and the HSF form."""
    case, name = world.case(), "p"
    tag = case.make()
    local = case.local([(name, "1", iov)])
    world.conditions.replace_iovs(tag, [local[0].name], local)
    assert [link.iov for link in world.conditions.list_iovs(tag)] == [iov]
    first = ExpRun(*iov.start)
    assert world.conditions.resolve([tag], first)[case.name(name)].iov == iov
    exported = world.conditions.export([tag], tmp_path_factory.mktemp("out"), within=ALWAYS)
    assert [entry.iov for entry in LocalDatabase(exported).entries()] == [iov]
    assert from_hsf(to_hsf(iov)) == iov


@given(lines=contents())
@moderate(10)
def test_i16_a_metadata_file_is_read_by_basf2_as_the_tag_and_comes_back_the_same(
    world: World, tmp_path_factory: pytest.TempPathFactory, lines: list[Line]
) -> None:
    case, directory = world.case(), tmp_path_factory.mktemp("sqlite")
    tag = case.make(lines, TagState.TESTING)
    file = export_sqlite(world.conditions, [tag], directory / "database.sqlite")
    expected = answers_of(lines)
    with SqliteMetadata(file) as metadata:
        for run in POINTS:
            found = {case.short(name): world.texts[one.payload.md5] for name, one in metadata.valid(tag, run).items()}
            assert found == {name: runs[run] for name, runs in expected.items() if run in runs}
    import_sqlite(world.conditions, file, [directory], prefix="again_")
    assert case.answers(f"again_{tag}") == expected


@given(lines=contents(("p", "q", "r")), seed=st.integers(0, 1000), threads=st.sampled_from([1, 2, 4, 8]))
@moderate(10)
def test_i18_any_order_and_number_of_threads_uploads_the_same(
    world: World, lines: list[Line], seed: int, threads: int
) -> None:
    """Every name is brought in by its own task, every content is uploaded twice at the same time."""
    case = world.case()
    tag = case.make()
    shuffled = random.Random(seed).sample(lines, len(lines))
    tasks = {name: case.local(one for one in shuffled if one[0] == name) for name, _, _ in shuffled}
    with ThreadPoolExecutor(threads) as pool:
        uploads = [
            pool.submit(world.client().put_payload, one.name, one.file) for local in tasks.values() for one in local * 2
        ]
        for upload in uploads:
            upload.result()
        replacing = [
            pool.submit(world.client().replace_iovs, tag, [case.name(name)], local) for name, local in tasks.items()
        ]
        for task in replacing:
            task.result()
    assert case.answers(tag) == answers_of(lines)
    distinct = {(name, text) for name, text, _ in lines}
    assert sum(case.revisions().values()) == len(distinct)


def test_i18_one_content_from_many_threads_is_one_payload(world: World) -> None:
    """Whichever comes first, all get the same."""
    case = world.case()
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda _: world.client().put_payload(case.name("p"), world.file("1")), range(16)))
    assert len(set(stored)) == 1
    assert case.revisions() == {"p": 1}
