"""How an error of the platform becomes the failure of a step: one clear sentence, retried only where that can help."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from b2cal_core.errors import BackendError, CalibrationError

RETRIES = 2
SECONDS_BETWEEN_RETRIES = 5.0


@contextmanager
def failing_in_words(subject: str, metadata: Mapping[str, dg.MetadataValue[Any]] | None = None) -> Iterator[None]:
    """Turn what a step's work raises on purpose into a failure that says it in its own words.

    Args:
        subject: opens the sentence, so that it can be understood away from the step.
        metadata: links to logs, for who looks further.
    """
    try:
        yield
    except BackendError as error:
        if error.transient:
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=SECONDS_BETWEEN_RETRIES) from error
        raise _failure(subject, str(error), metadata) from error
    except CalibrationError as error:
        raise _failure(subject, str(error), metadata) from error
    except OSError as error:
        raise _failure(subject, _system_error(error), metadata) from error


def _failure(subject: str, sentence: str, metadata: Mapping[str, Any] | None) -> dg.Failure:
    return dg.Failure(f"{subject}: {sentence}", metadata=dict(metadata or {}), allow_retries=False)


def _system_error(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full{where}; free space on it, then start the bucket again: finished work is kept"
    return f"{error.strerror or error}{where}; mend that, then start the bucket again: finished work is kept"
