"""Where the demo's wall time goes: adapters that pass everything on and note how long it took."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from b2cal_assets.workshop import Workshop
from b2cal_core.ports import (
    Caf,
    CafObserver,
    CafRequest,
    CafResult,
    CdstProducer,
    CdstRequest,
    CdstResult,
    ValidationRequest,
)
from b2cal_core.verdicts import Figure

SIMULATION, COLLECTORS, FITS, CDST, VALIDATION, REST = (
    "simulation",
    "collectors",
    "fits",
    "cDST production",
    "validation",
    "orchestration",
)
_WORK = (SIMULATION, COLLECTORS, FITS, CDST, VALIDATION)


@dataclass(slots=True)
class DemoClock:
    """Wall seconds per kind of work, and per name of a request directory, which is a calibration's asset name."""

    started: float = field(default_factory=time.monotonic)
    kinds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    calibrations: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timing(self, kind: str) -> Iterator[None]:
        """Count the block as this kind of work."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.kinds[kind] += time.monotonic() - start

    def split(self) -> dict[str, float]:
        """Seconds per kind up to now; what is left of the whole is orchestration."""
        whole = time.monotonic() - self.started
        seconds = {kind: self.kinds[kind] for kind in _WORK}
        return {**seconds, REST: max(0.0, whole - sum(seconds.values()))}

    def watch(self, workshop: Workshop) -> Workshop:
        """The same workshop, its long work timed."""
        return replace(
            workshop,
            caf=lambda site: _TimedCaf(workshop.caf(site), self),
            cdst=lambda site: _TimedCdst(workshop.cdst(site), self),
            validate=lambda site: lambda request: self._validate(workshop.validate(site), request),
        )

    def count(self, request: CafRequest | ValidationRequest, seconds: float) -> None:
        """Add seconds to the calibration of a request."""
        place = request.directory if isinstance(request, CafRequest) else request.job_path
        self.calibrations[place.parent.name, place.name] += seconds

    def _validate(
        self, validate: Callable[[ValidationRequest], Sequence[Figure]], request: ValidationRequest
    ) -> Sequence[Figure]:
        start = time.monotonic()
        with self.timing(VALIDATION):
            figures = validate(request)
        self.count(request, time.monotonic() - start)
        return figures


class _TimedCaf(Caf):
    """A CAF whose requests are timed; wall time is split as the CAF splits its own."""

    def __init__(self, caf: Caf, clock: DemoClock) -> None:
        self._caf, self._clock = caf, clock

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        start = time.monotonic()
        result = self._caf.run(request, observer)
        wall = time.monotonic() - start
        collect, algorithms = (result.seconds.get(phase, 0.0) for phase in ("collect", "algorithms"))
        # Calibrations of one script may run side by side, so that their sum is more than the wall time.
        share = min(1.0, wall / (collect + algorithms)) if collect + algorithms else 0.0
        self._clock.kinds[COLLECTORS] += share * collect
        self._clock.kinds[FITS] += share * algorithms
        self._clock.count(request, wall)
        return result

    def cancel(self) -> None:
        self._caf.cancel()


class _TimedCdst(CdstProducer):
    """A producer whose requests are timed."""

    def __init__(self, producer: CdstProducer, clock: DemoClock) -> None:
        self._producer, self._clock = producer, clock

    def produce(self, request: CdstRequest, observer: CafObserver) -> CdstResult:
        with self._clock.timing(CDST):
            return self._producer.produce(request, observer)
