"""A small grid of runs, on which everything that can collide does, and random contents of tags on it."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import Edge, ExpRun, IoV

EXPS = RUNS = range(4)
REST = 99
"""A run that stands for all of an experiment beyond the grid."""
POINTS = [ExpRun(exp, run) for exp in EXPS for run in (*RUNS, REST)] + [ExpRun(50, 0)]
"""Every run that IoVs of the grid can tell apart; the last is the far future."""
EDGES: list[Edge] = [(exp, run) for exp in EXPS for run in RUNS]
ALWAYS = IoV(0, 0, -1, -1)
NAMES = ("p", "q")
TEXTS = ("1", "2", "3")

Line = tuple[str, str, IoV]
"""Name, content and IoV."""
Answers = dict[str, dict[ExpRun, str]]
"""Name to run to content, for the points of the grid that have any."""


def moderate(examples: int) -> settings:
    """The same examples every time, so that a red test is red again."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def sequences(examples: int, steps: int) -> settings:
    """Likewise for sequences of steps; they are told as they failed, since shortening one takes minutes."""
    return settings(moderate(examples), stateful_step_count=steps, phases=[Phase.generate])


points = st.sampled_from(POINTS)


@st.composite
def iovs(draw: st.DrawFn) -> IoV:
    """Any IoV of the grid."""
    start = draw(st.sampled_from(EDGES))
    closed = [IoV(*start, *end) for end in EDGES if end >= start]
    rests = [IoV(*start, exp, -1) for exp in EXPS if exp >= start[0]]
    return draw(st.sampled_from([*closed, *rests, IoV(*start, -1, -1), ALWAYS]))


@st.composite
def disjoint(draw: st.DrawFn, edges: Sequence[Edge] = EDGES, *, gaps: bool = True) -> list[tuple[str, IoV]]:
    """The payloads of one name, none overlapping: from the first edge drawn to the last, or for ever."""
    cuts = sorted(draw(st.lists(st.sampled_from(edges), min_size=1, max_size=4, unique=True)))
    pieces = [IoV.of_edges(start, stop) for start, stop in pairwise(cuts)]
    if not pieces or draw(st.booleans()):
        pieces.append(IoV(*cuts[-1], -1, -1))
    texts = st.sampled_from([*TEXTS, None] if gaps else TEXTS)
    return [(text, iov) for iov in pieces if (text := draw(texts)) is not None]


@st.composite
def contents(draw: st.DrawFn, names: Sequence[str] = NAMES) -> list[Line]:
    """The content of a tag, without overlaps."""
    return [(name, text, iov) for name in names for text, iov in draw(disjoint())]


@st.composite
def publishes(draw: st.DrawFn) -> tuple[list[Line], list[Line], ExpRun, UpdateMode]:
    """A running tag, a staging tag, the first run and a mode; few of them break a rule."""
    first = draw(st.sampled_from(EDGES[5:]))
    past, future = [edge for edge in EDGES if edge < first], [edge for edge in EDGES if edge >= first]
    mode = draw(st.sampled_from(UpdateMode))
    running: list[Line] = []
    staging: list[Line] = []
    for name in NAMES:
        if draw(st.booleans()):
            running += [(name, text, iov) for text, iov in draw(disjoint(past))]
        kind = draw(st.sampled_from(["later", "from the beginning", "simple", "absent"]))
        if kind == "simple" or mode is UpdateMode.simple:
            staging += [(name, draw(st.sampled_from(TEXTS)), ALWAYS)]
        elif kind != "absent":
            lines = draw(disjoint(future, gaps=False))
            early = kind == "from the beginning"
            staging += [
                (name, text, _from_beginning(iov) if early and not i else iov) for i, (text, iov) in enumerate(lines)
            ]
    return running, staging, ExpRun(*first), mode


def _from_beginning(iov: IoV) -> IoV:
    return IoV.of_edges((0, 0), iov.stop)


def answers_of(lines: Iterable[Line]) -> Answers:
    """What the model answers, for lines that do not overlap."""
    found: Answers = {}
    for name, text, iov in lines:
        found.setdefault(name, {}).update({run: text for run in POINTS if iov.contains(run)})
    return {name: runs for name, runs in found.items() if runs}


def published(running: Answers, staging: Answers, first: ExpRun, mode: UpdateMode) -> Answers:
    """What a running update makes of a tag, run by run."""
    after: Answers = {}
    for name in running.keys() | staging.keys():
        staged = dict(staging.get(name, {}))
        if staged and mode is UpdateMode.fix_closed:
            last = staged[max(staged)]
            staged |= {run: last for run in POINTS if run > max(staged)}
        start = max(first, min(staged, default=first))
        ends = bool(staged) or mode is UpdateMode.full_replacement
        kept = {run: text for run, text in running.get(name, {}).items() if not ends or run < start}
        after[name] = kept | {run: text for run, text in staged.items() if run >= start}
    return {name: runs for name, runs in after.items() if runs}
