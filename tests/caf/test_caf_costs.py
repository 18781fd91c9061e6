"""What grows with the number of sub-jobs, and must not grow faster."""

import sqlite3
from collections.abc import ItemsView, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from caf_workbench import Notebook, Workbench

from b2cal_caf import collected
from b2cal_caf.calibration import Sums
from b2cal_caf.collected import CollectedHeap, CollectorFiles
from b2cal_caf.job_book import JobBook
from b2cal_core.jobs import JobState
from b2cal_core.ranges import ExpRun
from resources.batch.local import LocalBatch
from resources.caf.embedded import EmbeddedCaf

CALIBRATIONS = 4
RUNS = [(7, run, 10) for run in range(1, 13)]


class CountedStates(dict[str, JobState]):
    """Counts how many of them were looked at."""

    looked = 0

    def get(self, key: str, default: JobState | None = None) -> JobState | None:
        CountedStates.looked += 1
        return super().get(key, default)

    def items(self) -> ItemsView[str, JobState]:
        CountedStates.looked += len(self)
        return super().items()


class CountingBatch(LocalBatch):
    """Counts how many states it told."""

    told = 0

    def wait(self, ids: Sequence[str], timeout: float) -> Mapping[str, JobState]:
        states = super().wait(ids, timeout)
        self.told += len(states)
        return CountedStates(states)


def test_calibrations_side_by_side_look_at_their_own_sub_jobs_only(bench: Workbench) -> None:
    calibrations = [{"name": f"number{number}"} for number in range(CALIBRATIONS)]
    batch = CountingBatch(2)
    caf = EmbeddedCaf(batch, None, bench.place / "cache")
    assert caf.run(bench.request(bench.files(RUNS), calibrations=calibrations, max_files_per_job=1), Notebook()).ok
    assert 0 < CountedStates.looked < CALIBRATIONS / 2 * batch.told


def test_failed_sub_jobs_are_found_without_a_look_at_all_others(tmp_path: Path) -> None:
    assert JobBook(tmp_path / "caf_state.db").rows() == []
    asked = "SELECT * FROM subjobs WHERE stage IN ('failed') ORDER BY calibration, iteration, collection, number"
    connection = sqlite3.connect(tmp_path / "caf_state.db")
    ((*_, plan),) = connection.execute(f"EXPLAIN QUERY PLAN {asked}")
    connection.close()
    assert plan.startswith("SEARCH subjobs USING INDEX")


def test_every_collector_file_is_measured_once_when_it_is_read_and_once_when_it_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    measure = collected._bytes
    monkeypatch.setattr(collected, "_bytes", lambda columns: measured.append(None) or measure(columns))
    monkeypatch.setattr(collected, "_KEPT_BYTES", 100)
    files = [tmp_path / f"{number}.root" for number in range(20)]
    for number, file in enumerate(files):
        heap = CollectedHeap("run")
        heap.add(ExpRun(7, 1), 1, {"numbers": Sums(total=np.array([number]))})
        heap.write(file)
    found = CollectorFiles({"default": files})
    assert found.sums("numbers")["total"] == [sum(range(20))]
    assert len(found._store.rows) == 100 // 8
    assert len(measured) <= 2 * len(files)
