"""How soon the next begins: 200 calibrations in a chain, and a graph of 30 calibrations on 50 slots."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from figures import Times
from orchestration_apart import Taken, apart
from orchestration_diary import Entry, gaps, read_diary
from orchestration_graph import belle_like
from orchestration_inputs import batch_system, lay_out, run_caf
from orchestration_report import Line
from orchestration_scratch import scratch

CHAIN, GRAPH = "chain of calibrations", "graph like that of Belle II"
LOWER = "max(critical path, work / slots)"
LUIGI, DIARY = "luigi, a chain of tasks, forking", "diary"
SLOTS, SEED = 50, 3
"""Of ten seeds this is a typical one: taken without delay, the most urgent first, its graph takes 1.07 of the bound."""
_EDGE = 20
"""Links at either end of the chain that are looked at by themselves."""
_MILLI = 1000


def chain(links: int, places: int) -> Iterator[Line]:
    """Lines about calibrations that wait for each other, one sub-job and one algorithm each, which take no time.

    What passes from the return of a sub-job's or algorithm's own code to the call of the next one's counts, so that
    writing outputs and payloads, ending processes and starting others are part of it.
    """
    names = [f"link{number:04}" for number in range(links)]
    needs = [{"name": name, "depends_on": names[max(0, number - 1) : number]} for number, name in enumerate(names)]
    taken, entries = _run({name: [0] for name in names}, places, needs, scale=1.0)
    assert [entry.calibration for entry in entries] == [name for name in names for _ in range(2)]
    waits = gaps(entries)
    total = {
        "ms per link": (entries[-1].end - entries[0].begin) / links * _MILLI,
        "own CPU ms per link": taken.own_cpu / links * _MILLI,
    }
    peer = _luigi_chain(links, places)
    yield Line(CHAIN, links, 1, {**_times(waits), **total}, {LUIGI: median(waits) / median(peer)})
    yield Line("  sub-job to its algorithm", links, 1, _times(waits[::2]), {})
    yield Line("  algorithm to the next sub-job", links, 1, _times(waits[1::2]), {})
    if links > 2 * _EDGE:
        yield Line("  at the begin of the chain", _EDGE, 1, _times(waits[: 2 * _EDGE]), {})
        yield Line("  at its end", _EDGE, 1, _times(waits[-2 * _EDGE :]), {})
    yield Line(LUIGI, links, 1, _times(peer), {})


def graph(jobs: int, scale: float) -> Line:
    """The line about the graph on its slots, all sleeps times ``scale``; from the call of the CAF to its return.

    The lower bound is max(critical path, work / slots): on the critical path a pass takes as long as its longest
    sub-job, the passes of a calibration add up, and algorithms take no time and no slot.
    """
    wanted = belle_like(jobs, SEED)
    needs = [{"name": node.name, "passes": node.passes, "depends_on": node.depends_on} for node in wanted.nodes]
    sleeps = {node.name: [round(seconds * _MILLI) for seconds in node.sleeps] for node in wanted.nodes}
    taken, entries = _run(sleeps, SLOTS, needs, scale=scale)
    ran = [entry for entry in entries if entry.what == "collect"]
    assert len(ran) == wanted.jobs
    figures = {
        "seconds": taken.seconds,
        "bound s": wanted.bound(SLOTS) * scale,
        "critical path s": wanted.critical_path * scale,
        "slots busy %": sum(entry.end - entry.begin for entry in ran) / SLOTS / taken.seconds * 100,
        "own CPU s": taken.own_cpu,
        "jobs' CPU s": taken.jobs_cpu,
        "peak MB": taken.peak,
    }
    least = {
        LOWER: wanted.bound(SLOTS),
        "no delay, first come first served": wanted.in_order(SLOTS),
        "no delay, most urgent first": wanted.urgent_first(SLOTS),
    }
    return Line(GRAPH, wanted.jobs, 1, figures, {name: taken.seconds / (each * scale) for name, each in least.items()})


def sleeps_by_caf(directory: str, places: int, calibrations: Sequence[Mapping[str, Any]], scale: float) -> None:
    """Run calibrations whose sub-jobs sleep (what is measured; called in its own process)."""
    root = Path(directory)
    run_caf(root, batch_system("local", places), calibrations, diary=str(root / DIARY), scale=scale)


def _run(
    sleeps: Mapping[str, Sequence[int]], places: int, calibrations: Sequence[Mapping[str, Any]], *, scale: float
) -> tuple[Taken, list[Entry]]:
    with scratch() as root:
        lay_out(root, sleeps)
        asked = {"directory": str(root), "places": places, "calibrations": calibrations, "scale": scale}
        return apart("orchestration_graphs", "sleeps_by_caf", **asked), read_diary(root / DIARY)


def _luigi_chain(links: int, places: int) -> list[float]:
    with scratch() as root:
        apart("peers_luigi", "chain", directory=str(root), links=links, places=places)
        return gaps(read_diary(root / DIARY))


def _times(seconds: Sequence[float]) -> dict[str, float]:
    times = Times(tuple(seconds), sum(seconds))
    return {
        "p50 ms": times.median * _MILLI,
        "p95 ms": times.quantile(0.95) * _MILLI,
        "max ms": max(seconds) * _MILLI,
    }
