import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "caf"))
from caf_contract import CafContract
from caf_workbench import Workbench
from own_children import own_children

from b2cal_core.ports import Caf, CafRequest
from resources.batch.local import LocalBatch
from resources.caf.embedded import EmbeddedCaf

RUNS = [(7, 1, 10), (7, 2, 20)]


class TestEmbeddedCaf(CafContract):
    @pytest.fixture(autouse=True)
    def _diary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SYNTHETIC_DIARY", str(tmp_path / "diary"))

    def make(self, tmp_path: Path) -> Caf:
        return EmbeddedCaf(LocalBatch(2), None, tmp_path / "cache")

    def request(self, tmp_path: Path, **config: Any) -> CafRequest:
        bench = Workbench(tmp_path)
        return bench.request(bench.kept_files(RUNS), **config)

    def good(self, tmp_path: Path) -> CafRequest:
        return self.request(tmp_path)

    def failing(self, tmp_path: Path) -> CafRequest:
        calibrations = [{"name": "bad", "does": "raise"}, {"name": "below", "depends_on": ["bad"]}, {"name": "apart"}]
        return self.request(tmp_path, calibrations=calibrations)

    def endless(self, tmp_path: Path) -> CafRequest:
        return self.request(tmp_path, collector={"waits_for": str(tmp_path / "go")})

    def test_no_job_is_left_running_after_a_cancel(self, tmp_path: Path) -> None:
        before = own_children()
        self.test_a_run_can_be_cancelled_from_another_thread_and_resumed(tmp_path)
        assert own_children() <= before
