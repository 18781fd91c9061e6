"""What is done while a batch system takes no jobs: it is asked again later and later, as the policy says."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from b2cal_core.errors import BackendError
from b2cal_core.failure_policies import Again, FailurePolicy, Trial, decide
from b2cal_core.jobs import Cause


@dataclass(slots=True)
class SubmitPatience:
    """How often a batch system refused jobs in a row, and until when it is left alone.

    Attributes:
        log: takes lines for people.
    """

    policy: FailurePolicy
    log: Callable[[str], None]
    refusals: int = 0
    not_before: float = 0.0

    @property
    def may_ask(self) -> bool:
        """Whether it is time to hand jobs over."""
        return time.monotonic() >= self.not_before

    def taken(self) -> None:
        """Note that it took jobs."""
        self.refusals = 0

    def refused(self, error: BackendError, trial: Trial) -> None:
        """Note that it took none, of which one was to get what ``trial`` says; raises the error if it never will."""
        answer = decide(self.policy, Cause.batch, before=self.refusals, trial=trial, host="")
        if not error.transient or not isinstance(answer, Again):
            raise error
        self.refusals += 1
        self.not_before = time.monotonic() + answer.pause
        self.log(f"the batch system takes no jobs now, it is asked again in {answer.pause:g} s: {error}")
