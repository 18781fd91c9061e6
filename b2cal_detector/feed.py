"""The feed of the run registry: which runs the reference detector takes, of what kind and quality, and how long.

What a run is follows from the seed and its number alone. Of every twenty runs one is cosmic, one was bad, one
recovered, two were short.
"""

from datetime import UTC, datetime, timedelta

from b2cal_core.ranges import ExpRun
from b2cal_core.runs import RunRecord
from b2cal_detector.drifts import generator

_BLOCK = 20
_KINDS = ("cosmic", "bad", "recovered", "short", "short")
_FIRST_START = datetime(2024, 2, 20, tzinfo=UTC)
_LONG = ">=30 Minute Run"
_QUALITY = {
    "cosmic": frozenset({_LONG}),
    "bad": frozenset({_LONG, "Bad For Alignment"}),
    "recovered": frozenset({_LONG, "Good Or Recoverable"}),
    "short": frozenset({"Good", "Good Or Recoverable"}),
    "good": frozenset({_LONG, "Good", "Good Or Recoverable", "Good For PXD"}),
}


def kind_of(seed: int, run: ExpRun) -> str:
    """``good``, ``short``, ``recovered``, ``bad`` or ``cosmic``."""
    block, place = divmod(run.run, _BLOCK)
    places = generator(seed, "feed/kinds", run.exp, block).permutation(_BLOCK)[: len(_KINDS)]
    kinds: dict[int, str] = dict(zip(places.tolist(), _KINDS, strict=True))
    return kinds.get(place, "good")


def plan_run(seed: int, run: ExpRun) -> RunRecord:
    """The run as the registry will know it, without files."""
    kind = kind_of(seed, run)
    rng = generator(seed, "feed/duration", *run)
    minutes = float(rng.uniform(9, 14) if kind == "short" else rng.uniform(90, 150))
    start = _FIRST_START + timedelta(days=180 * (run.exp - 12), hours=3 * run.run)
    return RunRecord(
        run=run,
        run_type="cosmic" if kind == "cosmic" else "physics",
        beam_energy="No Beam" if kind == "cosmic" else "4S",
        magnet="On",
        quality=_QUALITY[kind],
        started=start,
        ended=start + timedelta(minutes=round(minutes, 1)),
    )


def plan_runs(seed: int, exp: int, first: int, count: int) -> tuple[RunRecord, ...]:
    """``count`` runs of an experiment from run ``first`` on, in order, without files."""
    return tuple(plan_run(seed, ExpRun(exp, number)) for number in range(first, first + count))
