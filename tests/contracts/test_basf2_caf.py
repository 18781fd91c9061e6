"""The contract of a CAF, held by the basf2 adapter with named fakes of the tools; real basf2 was never started here."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path += [str(Path(__file__).parents[1] / "caf"), str(Path(__file__).parents[1] / "caf" / "basf2")]
from basf2_workbench import Basf2Workbench, process_ids
from caf_contract import CafContract

from b2cal_core.ports import Caf, CafRequest

RUNS = [(7, 1, 10), (7, 2, 20)]


class TestBasf2Caf(CafContract):
    @pytest.fixture(autouse=True)
    def _diary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNTHETIC_DIARY", str(tmp_path / "diary"))

    def make(self, tmp_path: Path) -> Caf:
        return Basf2Workbench(tmp_path).basf2()

    def request(self, tmp_path: Path, **config: Any) -> CafRequest:
        bench = Basf2Workbench(tmp_path)
        return bench.request(bench.kept_files(RUNS), **config)

    def good(self, tmp_path: Path) -> CafRequest:
        return self.request(tmp_path)

    def failing(self, tmp_path: Path) -> CafRequest:
        calibrations = [{"name": "bad", "does": "raise"}, {"name": "below", "depends_on": ["bad"]}, {"name": "apart"}]
        return self.request(tmp_path, calibrations=calibrations)

    def endless(self, tmp_path: Path) -> CafRequest:
        return self.request(tmp_path, collector={"waits_for": str(tmp_path / "go")})

    def test_no_process_of_basf2_is_left_after_a_cancel(self, tmp_path: Path) -> None:
        self.test_a_run_can_be_cancelled_from_another_thread_and_resumed(tmp_path)
        assert process_ids(tmp_path / "request") == []
