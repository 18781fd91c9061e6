"""What people order of a process that works on a request, carried out by that process between two looks at its jobs."""

from collections.abc import Iterable, Sequence

from b2cal_caf.calibration_run import CalibrationRun
from b2cal_caf.collecting import CollectorStep
from b2cal_caf.job_book import JobBook, Order, OrderKind, Stage
from b2cal_caf.subjobs import SubJob
from b2cal_core.errors import BackendError
from b2cal_core.ports import CafObserver


def obey(book: JobBook, runs: Iterable[CalibrationRun], observer: CafObserver) -> None:
    """Carry out the orders that are in the book.

    Raises:
        BackendError: somebody cancelled the request.
    """
    steps = [run.collector for run in runs if run.collector is not None]
    for order in book.orders():
        try:
            for step in steps:
                _obey(step, order)
        except BackendError as error:
            if not error.transient:
                raise
            observer.log(f"{order.what} ordered by {order.who} waits for the batch system: {error}")
            return
        book.tick_off([order])
        observer.log(f"{order.what} ordered by {order.who}: {', '.join(order.which) or 'all'}")
        if order.what is OrderKind.cancel and not order.which:
            raise BackendError(
                f"the calibration was cancelled by {order.who}; asking again resumes it", transient=False
            )


def is_meant(name: str, which: Sequence[str]) -> bool:
    """Whether a sub-job is among those named: by its own name, or by that of its calibration, iteration, collection."""
    return not which or any(name == one or name.startswith(f"{one.rstrip('/')}/") for one in which)


def _obey(step: CollectorStep, order: Order) -> None:
    meant = [job for job in step.jobs if is_meant(job.row.name, order.which)]
    match order.what:
        case OrderKind.retry:
            wanted = meant if order.which else [job for job in meant if job.stage is Stage.failed]
            step.retry(wanted, f"tried again for {order.who}")
        case OrderKind.release:
            step.release(meant)
        case OrderKind.cancel if order.which:
            step.stop(_open(meant), f"cancelled by {order.who}")
        case OrderKind.exclude:
            excluded = {file: one for file, one in step.book.exclusions().items() if file in order.which}
            step.exclude({file: f"left out by {one.who}: {one.reason}" for file, one in excluded.items()})
        case _:
            return


def _open(jobs: Iterable[SubJob]) -> list[SubJob]:
    return [job for job in jobs if job.stage is Stage.waiting or job.stage.is_at_batch]
