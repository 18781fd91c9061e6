"""A bucket of simulated runs, calibrated in memory from raw data to the last calibration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from quick_caf import Layers, MadePayload, Outcome, run_script

from b2cal_core.runs import DataFile, RunRecord
from b2cal_detector.compare import Comparison, compare, run_weights
from b2cal_detector.feed import plan_runs
from b2cal_detector.reconstruction import reconstruct
from b2cal_detector.simulation import simulate_run
from b2cal_detector.truth import Truth

RAW_SCRIPTS = "cdc", "svd_time"
CDST_SCRIPTS = "top", "cdcdedx", "ecl_E", "beamspot", "boostvector", "ecms"


@dataclass
class QuickBucket:
    truth: Truth
    records: Sequence[RunRecord]
    conditions: Layers
    outcomes: dict[str, Outcome]

    def payloads(self, name: str) -> list[MadePayload]:
        return [made for outcome in self.outcomes.values() for made in outcome.saved if made.name == name]

    def comparisons(self) -> list[Comparison]:
        return [
            comparison
            for outcome in self.outcomes.values()
            for made in outcome.saved
            for comparison in compare(
                self.truth,
                made.name,
                made.columns,
                iov=made.iov,
                weights=run_weights(made.name, self.records, made.iov),
            )
        ]


def with_cdst(records: Sequence[RunRecord], conditions: Layers, directory: Path) -> list[RunRecord]:
    """The records with the cDST of their raw files added."""
    done = []
    for record in records:
        made = []
        for file in record.files:
            target = directory / f"{Path(file.path).stem}.root"
            events = reconstruct(Path(file.path), target, record.run, conditions)
            made.append(DataFile(str(target), file.tag, "cdst", events, target.stat().st_size, ""))
        done.append(replace(record, files=(*record.files, *made)))
    return done


def simulated(seed: int, directory: Path, *, first: int = 1, count: int = 20, scale: float = 1.0) -> list[RunRecord]:
    truth = Truth(seed)
    return [simulate_run(truth, run, directory / "data", scale=scale) for run in plan_runs(seed, 12, first, count)]


def calibrated(seed: int, directory: Path, *, first: int = 1, count: int = 20, scale: float = 1.0) -> QuickBucket:
    """Simulate and calibrate; each script sees the payloads of those before it."""
    records = simulated(seed, directory, first=first, count=count, scale=scale)
    conditions, outcomes = Layers.nominal(), {}
    for name in RAW_SCRIPTS:
        outcomes[name] = run_script(name, records, conditions)
        conditions = conditions.on_top(outcomes[name].saved)
    records = with_cdst(records, conditions, directory / "cdst")
    for name in CDST_SCRIPTS:
        outcomes[name] = run_script(name, records, conditions)
        conditions = conditions.on_top(outcomes[name].saved)
    return QuickBucket(Truth(seed), records, conditions, outcomes)


def pulls_of(comparisons: Sequence[Comparison], name: str, column: str) -> np.ndarray:
    return np.concatenate([c.pulls for c in comparisons if (c.name, c.column) == (name, column)])
