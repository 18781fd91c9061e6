"""From which run on the constants of a tag may still change: after all that was processed, ended or begun.

Source: Belle II conditions database tools, hint on the next possible update; extended by what was processed.
"""

from collections.abc import Iterable

from b2cal_core.plans import SafeRun
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun


def first_safe_run(links: Iterable[TagIov], processed: tuple[ExpRun, str] | None = None) -> SafeRun:
    """The first run that comes after every start and every end the tag has, and after the last processed run.

    Args:
        links: content of the tag. The part from some run on is enough to tell whether that run is safe: links that end
            before it cannot forbid it. If it is not, the answer is that for the whole tag.
        processed: the last run that was processed with the tag, and where this is known from.
    """
    found = SafeRun(ExpRun(0, 0), "the tag is empty, and nothing was processed with it")
    for link in links:
        what = f"{link.name} revision {link.revision}"
        begun = ExpRun(link.iov.exp_low, link.iov.run_low + 1)
        found = _later(found, begun, f"{what} begins in exp {link.iov.exp_low} run {link.iov.run_low}")
        if not link.iov.is_open:
            found = _later(found, ExpRun(*link.iov.stop), f"{what} ends with {_end_of(link)}")
    if processed is not None:
        run, source = processed
        found = _later(found, ExpRun(run.exp, run.run + 1), f"{run} was processed ({source})")
    return found


def _later(found: SafeRun, run: ExpRun, reason: str) -> SafeRun:
    return SafeRun(run, reason) if run > found.run else found


def _end_of(link: TagIov) -> str:
    last = "its last run" if link.iov.run_high == -1 else f"run {link.iov.run_high}"
    return f"exp {link.iov.exp_high} {last}"
