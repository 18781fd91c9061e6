"""A graph of calibrations like that of a release, and the least time that any platform needs for it."""

import heapq
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

_RAW = {
    "cdc": (),
    "cdc_deadboard": (),
    "pxd": (),
    "pxd_masks": (),
    "arich": (),
    "top_pre": (),
    "klm_channel_status": (),
    "ecl_autocovariance": (),
    "cdc_badwire": ("cdc",),
    "svd_time": ("cdc",),
    "vxdcdc_alignment": ("cdc",),
    "cdc_fudgefactor": ("vxdcdc_alignment",),
    "klm_alignment": ("vxdcdc_alignment", "klm_channel_status"),
}
_RECONSTRUCTED = ("cdc_badwire", "cdc_fudgefactor", "svd_time", "klm_alignment", "top_pre")
"""What the cDSTs are made with, so that everything of the second stage waits for it."""
_CDST = {
    "top": _RECONSTRUCTED,
    "cdcdedx_electron": _RECONSTRUCTED,
    "svd_dedx": _RECONSTRUCTED,
    "ecl_energy": _RECONSTRUCTED,
    "ecl_time": _RECONSTRUCTED,
    "ecl_waveform_1": _RECONSTRUCTED,
    "ecl_waveform_2": _RECONSTRUCTED,
    "ecl_waveform_3": _RECONSTRUCTED,
    "ecl_waveform_4": _RECONSTRUCTED,
    "klm_time": _RECONSTRUCTED,
    "klm_strip_efficiency": _RECONSTRUCTED,
    "cdcdedx_hadron": ("cdcdedx_electron", "top"),
    "beamspot": ("cdcdedx_electron", "cdcdedx_hadron", "svd_dedx", "top", "klm_strip_efficiency"),
    "boostvector": ("beamspot",),
    "pxd_gain": ("beamspot",),
    "pxd_gain_masks": ("beamspot",),
    "ecms": ("boostvector",),
}
_NEEDS: Mapping[str, tuple[str, ...]] = {**_RAW, **_CDST}
"""The calibrations of Belle II that are in use and what they wait for, a few of them in parts: 30, in 8 levels."""
_ITERATING = frozenset({"cdc", "vxdcdc_alignment", "klm_alignment", "cdcdedx_electron", "ecl_time"})
_PASSES = 3
_SHORTEST, _LONGEST, _TYPICAL, _SPREAD = 1.0, 5.0, 2.0, 0.6
"""Seconds of sleep of a sub-job; log-normal around the typical one, kept within the others."""
_UNEVEN = 0.5
"""Spread, likewise, of the number of sub-jobs of a calibration."""


@dataclass(frozen=True, slots=True)
class Node:
    """A calibration; ``sleeps``: seconds of each sub-job, the same in every pass."""

    name: str
    depends_on: tuple[str, ...]
    passes: int
    sleeps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Calibrations, each after all it depends on."""

    nodes: tuple[Node, ...]

    @property
    def jobs(self) -> int:
        """Sub-jobs of all passes."""
        return sum(len(node.sleeps) * node.passes for node in self.nodes)

    @property
    def work(self) -> float:
        """Seconds of sleep of all sub-jobs of all passes."""
        return sum(sum(node.sleeps) * node.passes for node in self.nodes)

    @property
    def critical_path(self) -> float:
        """Seconds on as many slots as there are sub-jobs: a pass takes as long as its longest one, passes add up."""
        ends: dict[str, float] = {}
        for node in self.nodes:
            begin = max((ends[name] for name in node.depends_on), default=0.0)
            ends[node.name] = begin + node.passes * max(node.sleeps)
        return max(ends.values())

    def bound(self, slots: int) -> float:
        """The least seconds that anybody needs: max(critical path, work / slots), as if algorithms took no time."""
        return max(self.critical_path, self.work / slots)

    def in_order(self, slots: int) -> float:
        """Seconds without any delay when sub-jobs are taken in the order in which they become possible."""
        return _Replay(self.nodes, slots, {node.name: 0.0 for node in self.nodes}).run()

    def urgent_first(self, slots: int) -> float:
        """Likewise, taken by the length of what is left behind them, of two alike the longer one first."""
        return _Replay(self.nodes, slots, self._left_behind()).run()

    def _left_behind(self) -> dict[str, float]:
        """Seconds on the longest path from the end of a calibration to the end of all."""
        left = {node.name: 0.0 for node in self.nodes}
        for node in reversed(self.nodes):
            for name in node.depends_on:
                left[name] = max(left[name], left[node.name] + node.passes * max(node.sleeps))
        return left


def belle_like(jobs: int, seed: int) -> Graph:
    """The 30 calibrations, 5 of them with 3 passes, with so many sub-jobs in all; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 (nothing secret)
    passes = {name: _PASSES if name in _ITERATING else 1 for name in _NEEDS}
    numbers = _numbers(passes, jobs, chance)
    return Graph(
        tuple(
            Node(name, needed, passes[name], tuple(_sleep(chance) for _ in range(numbers[name])))
            for name, needed in _NEEDS.items()
        )
    )


def _numbers(passes: Mapping[str, int], jobs: int, chance: random.Random) -> dict[str, int]:
    """Sub-jobs per pass, at least one, uneven as calibrations are; the last ones make up for what rounding left."""
    shares = {name: chance.lognormvariate(0, _UNEVEN) for name in passes}
    total = sum(share * passes[name] for name, share in shares.items())
    numbers = {name: max(1, int(jobs * share / total)) for name, share in shares.items()}
    once = [name for name in passes if passes[name] == 1]
    left = jobs - sum(numbers[name] * passes[name] for name in passes)
    for number in range(abs(left)):
        numbers[once[number % len(once)]] += 1 if left > 0 else -1
    return numbers


def _sleep(chance: random.Random) -> float:
    """Seconds in whole milliseconds."""
    return round(min(_LONGEST, max(_SHORTEST, chance.lognormvariate(math.log(_TYPICAL), _SPREAD))), 3)


@dataclass(slots=True)
class _Replay:
    """The graph played through without any delay.

    Attributes:
        left_behind: calibration to the seconds left after it; all zero when sub-jobs are to be taken as they come.
        queue: what can be run, most urgent first: minus the seconds left, minus its own, when it came, its calibration.
    """

    nodes: tuple[Node, ...]
    slots: int
    left_behind: Mapping[str, float]
    now: float = 0.0
    queue: list[tuple[float, float, int, str, float]] = field(default_factory=list)
    running: list[tuple[float, str]] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    came: int = 0

    def run(self) -> float:
        """Seconds until the last sub-job has ended."""
        self._begin_what_can()
        while self.queue or self.running:
            while self.queue and len(self.running) < self.slots:
                *_, name, seconds = heapq.heappop(self.queue)
                heapq.heappush(self.running, (self.now + seconds, name))
            self.now, name = heapq.heappop(self.running)
            self.open[name] -= 1
            if not self.open[name]:
                self._begin_what_can()
        return self.now

    def _begin_what_can(self) -> None:
        """Queue the next pass of every calibration that is not at work and has all it needs."""
        done = {node.name for node in self.nodes if self._is_done(node)}
        for node in self.nodes:
            begun = self.begun.get(node.name, 0)
            if not self.open.get(node.name) and begun < node.passes and done.issuperset(node.depends_on):
                self.begun[node.name] = begun + 1
                self.open[node.name] = len(node.sleeps)
                for seconds in node.sleeps:
                    self._push(node, seconds, passes_after=node.passes - begun - 1)

    def _push(self, node: Node, seconds: float, *, passes_after: int) -> None:
        left = self.left_behind[node.name] + passes_after * max(node.sleeps)
        urgency = (-left, -seconds) if any(self.left_behind.values()) else (0.0, 0.0)
        heapq.heappush(self.queue, (*urgency, self.came, node.name, seconds))
        self.came += 1

    def _is_done(self, node: Node) -> bool:
        return self.begun.get(node.name) == node.passes and not self.open[node.name]
