"""The gains of runs and wires for the energy loss in the drift chamber."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from b2cal_caf.calibration import Algorithm, Execution, Sums
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.strategies import AlgResult


@dataclass(frozen=True, slots=True)
class DedxRunGainAlgorithm(Algorithm):
    """The mean charge of all hits, with wire gains as they are.

    Args:
        min_hits: hits needed.
    """

    min_hits: int = 20000

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``CDCDedxRunGain`` with columns ``gain``, ``gain_err`` and ``hits``."""
        sums = execution.data.sums("charges")
        hits = sums["hits"].sum() if sums else 0
        if hits < self.min_hits:
            return AlgResult.not_enough_data
        before = execution.conditions.columns("CDCDedxRunGain", execution.runs[0])["gain"][0]
        execution.save("CDCDedxRunGain", _run_gain(sums, np.ones_like(sums["hits"]), before))
        return AlgResult.ok


@dataclass(frozen=True, slots=True)
class DedxWireGainAlgorithm(Algorithm):
    """The mean charge of every wire without the run gains, then the run gains without the new wire gains.

    Runs are taken together as the run gains of the chain have them. The mean gain of the wires is 1.

    Args:
        min_hits: a wire with fewer keeps its gain, with an infinite error.
        min_wires: share of wires that must have enough hits, else there is not enough data.
    """

    min_hits: int = 10
    min_wires: float = 0.9

    def calibrate(self, execution: Execution) -> AlgResult:
        """Make ``CDCDedxWireGain`` and ``CDCDedxRunGain``, both with columns ``gain``, ``gain_err`` and ``hits``."""
        sums = execution.data.sums("charges")
        if not sums or np.mean(sums["hits"] >= self.min_hits) < self.min_wires:
            return AlgResult.not_enough_data
        change, error = self._wire_change(sums)
        before = execution.conditions.columns("CDCDedxWireGain", execution.runs[0])["gain"]
        gain = before * change
        scale = gain.mean()
        hits = sums["hits"].astype(np.int64)
        execution.save("CDCDedxWireGain", {"gain": gain / scale, "gain_err": error, "hits": hits})
        self._save_run_gains(execution, change / scale)
        return AlgResult.ok

    def _wire_change(self, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
        """Factor on each gain, and the error of the gain at a gain of 1: a wire's own would follow its fluctuation."""
        usable = sums["hits"] >= self.min_hits
        hits = np.where(usable, sums["hits"], 1)
        change = np.where(usable, sums["charge"] / hits, 1)
        spread = np.sqrt(
            np.sum((sums["square"] / hits - change**2)[usable]) / np.sum((change**2 * (1 - 1 / hits))[usable])
        )
        return change, np.where(usable, spread / np.sqrt(hits), np.inf)

    def _save_run_gains(self, execution: Execution, change: np.ndarray) -> None:
        for runs, before, iov in _run_gain_groups(execution):
            sums = execution.data.of(runs).sums("charges")
            execution.save("CDCDedxRunGain", _run_gain(sums, change, before), iov)


def _run_gain(sums: Sums, wire_gains: np.ndarray, before: float) -> dict[str, np.ndarray]:
    """The run gain from charges that still hold ``wire_gains``, for a gain ``before`` already taken out."""
    hits = sums["hits"].sum()
    mean = np.sum(sums["charge"] / wire_gains) / hits
    spread = np.sqrt(np.sum(sums["square"] / wire_gains**2) / hits - mean**2)
    return {
        "gain": np.array([before * mean]),
        "gain_err": np.array([before * spread / np.sqrt(hits)]),
        "hits": np.array([int(hits)]),
    }


def _run_gain_groups(execution: Execution) -> Iterator[tuple[list[ExpRun], float, IoV]]:
    """Neighbouring runs with one run gain in the chain, the gain, and the IoV up to the next group."""

    def gain(run: ExpRun) -> float:
        return float(execution.conditions.columns("CDCDedxRunGain", run)["gain"][0])

    groups = [(value, list(runs)) for value, runs in groupby(execution.runs, key=gain)]
    starts = [execution.iov.start, *((runs[0].exp, runs[0].run) for _, runs in groups[1:])]
    stops = [*starts[1:], execution.iov.stop]
    for (value, runs), start, stop in zip(groups, starts, stops, strict=True):
        yield runs, value, IoV.of_edges(start, stop)
