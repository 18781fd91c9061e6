"""The states of a calibration and the ways between them.

Source: basf2 CAF, CalibrationMachine; ``skipped`` is ours, for what depends on a failed calibration.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a calibration stands."""

    init = "init"
    running_collector = "running_collector"
    collector_completed = "collector_completed"
    collector_failed = "collector_failed"
    running_algorithms = "running_algorithms"
    algorithms_completed = "algorithms_completed"
    algorithms_failed = "algorithms_failed"
    completed = "completed"
    failed = "failed"
    skipped = "skipped"

    @property
    def is_checkpoint(self) -> bool:
        """Whether work can be taken up again from here."""
        return self in {State.init, State.collector_completed, State.completed}

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more happens in this run."""
        return self in {State.completed, State.failed, State.skipped}


class Trigger(StrEnum):
    """What moves a calibration on."""

    submit_collector = "submit_collector"
    complete = "complete"
    fail = "fail"
    run_algorithms = "run_algorithms"
    iterate = "iterate"
    finish = "finish"
    fail_fully = "fail_fully"
    skip = "skip"


TRANSITIONS: Mapping[tuple[Trigger, State], State] = MappingProxyType(
    {
        (Trigger.submit_collector, State.init): State.running_collector,
        (Trigger.fail, State.init): State.collector_failed,
        (Trigger.skip, State.init): State.skipped,
        (Trigger.complete, State.running_collector): State.collector_completed,
        (Trigger.fail, State.running_collector): State.collector_failed,
        (Trigger.run_algorithms, State.collector_completed): State.running_algorithms,
        (Trigger.fail, State.collector_completed): State.algorithms_failed,
        (Trigger.complete, State.running_algorithms): State.algorithms_completed,
        (Trigger.fail, State.running_algorithms): State.algorithms_failed,
        (Trigger.iterate, State.algorithms_completed): State.init,
        (Trigger.finish, State.algorithms_completed): State.completed,
        (Trigger.fail_fully, State.collector_failed): State.failed,
        (Trigger.fail_fully, State.algorithms_failed): State.failed,
    }
)


def after(state: State, trigger: Trigger) -> State:
    """The state that follows; ``ValueError`` when the trigger has no place in the state."""
    try:
        return TRANSITIONS[trigger, state]
    except KeyError:
        msg = f"a calibration in state {state} cannot {trigger}"
        raise ValueError(msg) from None
