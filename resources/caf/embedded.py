"""The platform's own CAF behind the port ``Caf``."""

import threading
from pathlib import Path

from b2cal_caf.constants import ConstantsSource
from b2cal_caf.runner import Runner
from b2cal_core.ports import BatchBackend, Caf, CafObserver, CafRequest, CafResult, CollectedSummary, ConditionsDB


class EmbeddedCaf(Caf):
    """Runs calibration scripts with the embedded CAF.

    Args:
        batch: where collector sub-jobs run; algorithms run on this machine.
        conditions: where the tags of a chain are; without it a chain may name testing payload storages only.
        cache: directory of collector outputs, shared by all requests.
        cache_limit: bytes that the outputs may take, cleaned up from time to time; no limit by default.
    """

    def __init__(
        self, batch: BatchBackend, conditions: ConditionsDB | None, cache: Path, cache_limit: int | None = None
    ) -> None:
        self._cancelled = threading.Event()
        self._runner = Runner(batch, ConstantsSource(conditions), cache.absolute(), self._cancelled, cache_limit)

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        """Run, or resume, the request."""
        self._cancelled.clear()
        return self._runner.run(request, observer)

    def collect_ahead(self, request: CafRequest, observer: CafObserver, awaited: frozenset[str]) -> CollectedSummary:
        """Fill the cache for a bucket that is still open."""
        self._cancelled.clear()
        return self._runner.collect_ahead(request, observer, awaited)

    def cancel(self) -> None:
        """End a ``run`` in another thread."""
        self._cancelled.set()
