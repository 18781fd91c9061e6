"""Intervals of validity as an HSF conditions database keeps them, and back: a one-to-one mapping.

There the experiment is the major and the run the minor number, the end is exclusive, and an end of twice the largest
64-bit number is "for ever". Source: HSF nopayloaddb, intervals in continuous mode.
"""

from b2cal_core.ranges import IoV

MAX = 2**63 - 1
"""The largest number such a database can hold; as both numbers of an end it means "for ever"."""

HsfInterval = tuple[int, int, int, int]
"""Major and minor number of the start, inclusive; major and minor number of the end, exclusive."""

_LAST_EXPERIMENT = IoV(0, 0, -1, -1).stop[0] - 2
_LAST_RUN = MAX - 1


def to_hsf(iov: IoV) -> HsfInterval:
    """The interval that holds the runs of the IoV.

    Raises:
        ValueError: an experiment or run number is too large for the mapping to be one-to-one.
    """
    stop = (MAX, MAX) if iov.is_open else iov.stop
    _refuse_large((*iov.start, *stop))
    return *iov.start, *stop


def from_hsf(interval: HsfInterval) -> IoV:
    """The IoV with the runs of an interval.

    Raises:
        ValueError: the interval is empty, starts below 0, or has numbers that no IoV is mapped to.
    """
    major, minor, *end = interval
    start, stop = (major, minor), (end[0], end[1])
    _refuse_large(interval)
    if stop == (MAX, MAX):
        return IoV(*start, -1, -1)
    if start >= stop:
        msg = f"the interval {_described(interval)} is empty: its end is exclusive and must lie after its start"
        raise ValueError(msg)
    return IoV.of_edges(start, stop)


def _refuse_large(interval: HsfInterval) -> None:
    major, minor, major_end, minor_end = interval
    is_for_ever = (major_end, minor_end) == (MAX, MAX)
    end_fits = is_for_ever or ((major_end, minor_end) <= (_LAST_EXPERIMENT + 1, 0) and minor_end <= MAX)
    if major > _LAST_EXPERIMENT or minor > _LAST_RUN or not end_fits:
        msg = (
            f"the interval {_described(interval)} goes beyond experiment {_LAST_EXPERIMENT} or run {_LAST_RUN} and is"
            f" not for ever, which is {MAX},{MAX} exactly"
        )
        raise ValueError(msg)


def _described(interval: HsfInterval) -> str:
    major, minor, major_end, minor_end = interval
    return f"from {major},{minor} up to {major_end},{minor_end}"
