"""What can be done about a calibration that has not enough data in a bucket."""

from enum import StrEnum


class Remedy(StrEnum):
    """What is done. Whatever it is, payloads are made for the bucket's own runs only."""

    ask = "ask"
    """A person chooses."""
    merge = "merge"
    """It is calibrated with the data of the bucket before as well."""
    extend = "extend"
    """It waits for the next bucket to be closed, and is calibrated with its data as well."""
    reuse = "reuse"
    """The payloads that were valid before the bucket are taken for its runs too."""
    alone = "alone"
    """It is calibrated with the data of the bucket alone, as at first; for people, when its data changed."""
