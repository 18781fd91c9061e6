"""The exception tree. The class says who acts; the message says what happened, with which values, and what to do.

- ``CalibrationError``
    - ``ConfigurationError``: the expert or manager who wrote the configuration acts
        - ``CatalogueError``: the scripts of a release do not fit together
    - ``DataError``: the detector group acts: input files, run records
        - ``NotEnoughDataError``
    - ``ConflictError``: somebody else changed or holds the thing; look, then ask again
    - ``RightsError``: whoever administers the global tag acts, or gives the right to do so
    - ``IntegrityError``: stored content is not what its checksum says; the administrator acts
    - ``BackendError``: the platform acts: batch system, database, registry, disk
"""

from collections.abc import Sequence

from pydantic import ValidationError


class CalibrationError(Exception):
    """Base of everything the platform raises on purpose; its text may be shown to a user."""


class ConfigurationError(CalibrationError, ValueError):
    """Something that a person configured cannot work."""


class CatalogueError(ConfigurationError):
    """The calibration scripts of a release do not fit together: a cycle, an unknown or a doubled name."""


class DataError(CalibrationError):
    """Input files or run records are missing, damaged or contradict each other."""


class NotEnoughDataError(DataError):
    """All data together stay below what a calibration needs."""


class ConflictError(CalibrationError):
    """The thing to be changed is not in the expected state, or somebody else holds it; nothing was changed."""


class RightsError(CalibrationError):
    """The one who asked may not change the global tag, or has not shown who they are; nothing was changed."""


class IntegrityError(CalibrationError):
    """Stored content does not have the checksum it was stored with."""


class BackendError(CalibrationError):
    """A service or machine of the platform failed.

    ``transient`` says whether asking again later can help; Dagster retries only those.
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


_SCREENFUL = 10


def in_short(sentences: Sequence[str]) -> str:
    """The sentences in one line, the first ten of them; more would hide what to do about them."""
    return "; ".join(sentences[:_SCREENFUL]) + ("; …" if len(sentences) > _SCREENFUL else "")


def reasons_of(error: ValidationError) -> str:
    """What pydantic found wrong, in one line: each key with its reason."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'as a whole'}: {e['msg']}" for e in error.errors())
