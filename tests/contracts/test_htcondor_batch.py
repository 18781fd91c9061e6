from pathlib import Path

import pytest
from batch_contract import BatchContract
from servers.htcondor import HTCondorPool

from b2cal_core.ports import BatchBackend
from resources.batch.htcondor import HTCondorBatch


class TestHTCondorBatch(BatchContract):
    @pytest.fixture(autouse=True)
    def _pool(self, htcondor: HTCondorPool) -> None:
        self.pool = htcondor

    def make(self, tmp_path: Path) -> BatchBackend:
        return HTCondorBatch()
