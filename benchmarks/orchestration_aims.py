"""What orchestration is to reach, and what it did."""

from collections.abc import Iterator, Mapping, Sequence

from aims import FLAT, Aim
from orchestration_graphs import CHAIN, GRAPH, LOWER
from orchestration_report import Line
from orchestration_subjobs import BATCH, CAF, CAF_ON_CONDOR

SUB_JOB_MS, WAIT_MS, MAKESPAN, STATUS_MS = 5.0, 100.0, 1.10, 100.0
_TEN_TIMES = 10


def judged(parts: Mapping[str, Sequence[Line]]) -> list[Aim]:
    """The aims that the lines tell about."""
    lines = [line for part in parts.values() for line in part]
    return [aim for line in lines for aim in _of_line(line)] + list(_flat(lines))


def _of_line(line: Line) -> Iterator[Aim]:
    subject = f"{line.what}, {line.jobs:,}"
    figures = line.figures
    if line.what == CAF:
        yield _at_most(subject, "ms per sub-job", SUB_JOB_MS, figures["ms each"])
        yield _at_most(subject, "ms of our own processor time per sub-job", SUB_JOB_MS, figures["own CPU ms"])
        yield _at_most(subject, "ms for its status, the slowest", STATUS_MS, figures["status max ms"])
    elif line.what == CAF_ON_CONDOR:
        yield _at_most(subject, "ms of our own processor time per sub-job", SUB_JOB_MS, figures["own CPU ms"])
    elif line.what == CHAIN:
        yield _at_most(subject, "ms from an end to the next begin, p95", WAIT_MS, figures["p95 ms"])
    elif line.what == GRAPH:
        yield _at_most(subject, f"over {LOWER}", MAKESPAN, line.bounds[LOWER])


def _flat(lines: Sequence[Line]) -> Iterator[Aim]:
    for what, figure in ((CAF, "ms each"), (BATCH, "ms each"), (CAF, "peak MB")):
        own = sorted((line for line in lines if line.what == what), key=lambda line: line.jobs)
        if len(own) > 1 and own[-1].jobs >= _TEN_TIMES * own[0].jobs:
            subject = f"{what}, {own[-1].jobs:,} over {own[0].jobs:,}"
            yield _at_most(subject, f"ratio of {figure}", FLAT, own[-1].figures[figure] / own[0].figures[figure])


def _at_most(subject: str, what: str, most: float, reached: float) -> Aim:
    return Aim(subject, f"{what} at most {most:g}", reached, met=reached <= most)
