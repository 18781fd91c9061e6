"""What goes wrong in a step is said in one sentence, and retried only where that can help."""

import errno

import dagster as dg
import pytest

from b2cal_assets.step_errors import RETRIES, failing_in_words
from b2cal_core.errors import BackendError, ConfigurationError


def test_an_error_of_the_expert_fails_with_its_own_words_and_is_not_retried() -> None:
    with (
        pytest.raises(dg.Failure, match="TOP: the script lacks settings") as caught,
        failing_in_words("TOP", {"log": dg.MetadataValue.path("/log")}),
    ):
        raise ConfigurationError("the script lacks settings")
    assert not caught.value.allow_retries
    assert caught.value.metadata["log"].value == "/log"


def test_a_failure_of_the_platform_that_may_pass_is_retried() -> None:
    with pytest.raises(dg.RetryRequested) as caught, failing_in_words("TOP"):
        raise BackendError("the queue does not answer", transient=True)
    assert caught.value.max_retries == RETRIES


def test_a_lasting_failure_of_the_platform_is_not_retried() -> None:
    with pytest.raises(dg.Failure, match="TOP: no such queue"), failing_in_words("TOP"):
        raise BackendError("no such queue", transient=False)


def test_a_full_disk_is_said_with_what_to_do() -> None:
    with pytest.raises(dg.Failure, match=r"the disk is full \(/srv/x\); free space on it"), failing_in_words("TOP"):
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/x")


def test_a_file_that_may_not_be_written_is_named() -> None:
    with pytest.raises(dg.Failure, match=r"Permission denied \(/srv/x\); mend that"), failing_in_words("TOP"):
        raise PermissionError(errno.EACCES, "Permission denied", "/srv/x")


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), failing_in_words("TOP"):
        raise ZeroDivisionError
