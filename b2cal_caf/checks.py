"""What must hold for the calibrations a script returns, checked before anything is submitted."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from b2cal_caf.calibration import Algorithm, Calibration, Collection, Collector, Step
from b2cal_caf.collector_identity import describe
from b2cal_core.errors import ConfigurationError
from b2cal_core.graphs import CycleError, topological_order

_LONGEST_NAME = 64


def check_calibrations(returned: Any, script: Path) -> tuple[Calibration, ...]:  # noqa: ANN401 (checked here)
    """The calibrations, each after all it depends on.

    Raises:
        ConfigurationError: the script returned something else, or calibrations that cannot work.
    """
    if not isinstance(returned, Iterable) or isinstance(returned, str | Mapping):
        msg = f"get_calibrations of {script} must return a list of calibrations, it returned {type(returned).__name__}"
        raise ConfigurationError(msg)
    calibrations = list(returned)
    if not calibrations:
        msg = f"get_calibrations of {script} returned no calibration"
        raise ConfigurationError(msg)
    for calibration in calibrations:
        if not isinstance(calibration, Calibration):
            msg = f"get_calibrations of {script} must return calibrations, it returned a {type(calibration).__name__}"
            raise ConfigurationError(msg)
        _check_name(calibration.name, "calibration")
        _check_parts(calibration)
        _check_granularity(calibration)
    return _ordered(calibrations)


def _ordered(calibrations: list[Calibration]) -> tuple[Calibration, ...]:
    by_name: dict[str, Calibration] = {}
    for calibration in calibrations:
        if by_name.setdefault(calibration.name, calibration) is not calibration:
            msg = f"two calibrations of the script are called {calibration.name!r}; rename one"
            raise ConfigurationError(msg)
    needs = {c.name: [other.name for other in c.dependencies if other in calibrations] for c in by_name.values()}
    try:
        return tuple(by_name[name] for name in topological_order(needs))
    except CycleError as error:
        msg = f"the calibrations depend on each other in a circle: {' -> '.join(error.path)}; remove one depends_on"
        raise ConfigurationError(msg) from error


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "/" in name or name.startswith("."):
        msg = f"a {what} is named with 1 to {_LONGEST_NAME} characters, no / and no leading dot, got {name!r}"
        raise ConfigurationError(msg)


def _check_parts(calibration: Calibration) -> None:
    if not calibration.steps:
        msg = f"calibration {calibration.name} has no algorithm; give it at least one Step"
        raise ConfigurationError(msg)
    for step in calibration.steps:
        if not isinstance(step, Step) or not isinstance(step.algorithm, Algorithm):
            msg = f"the steps of calibration {calibration.name} must be Steps with an Algorithm, got {step!r}"
            raise ConfigurationError(msg)
        _check_name(step.algorithm.name, "algorithm")
    for name, collection in calibration.collections.items():
        _check_name(name, "collection")
        if not isinstance(collection, Collection) or not isinstance(collection.collector, Collector):
            msg = f"collection {name} of calibration {calibration.name} must be a Collection with a Collector"
            raise ConfigurationError(msg)
        describe(collection.collector)
    if calibration.max_iterations is not None and calibration.max_iterations < 0:
        wanted = f"max_iterations of calibration {calibration.name}"
        msg = f"{wanted} counts extra passes from 0, got {calibration.max_iterations}"
        raise ConfigurationError(msg)


def _check_granularity(calibration: Calibration) -> None:
    """All collections with files share one granularity, and every strategy can use it."""
    used = {name: c.collector.granularity for name, c in calibration.collections.items() if c.input_files}
    if len(set(used.values())) > 1:
        msg = f"the collections of calibration {calibration.name} must share one granularity, they have {used}"
        raise ConfigurationError(msg)
    for step in calibration.steps:
        allowed = step.strategy.allowed_granularities
        if used and not set(used.values()) <= allowed:
            msg = (
                f"strategy {type(step.strategy).__name__} of calibration {calibration.name} needs granularity "
                f"{' or '.join(sorted(allowed))}, its collectors have {next(iter(used.values()))!r}"
            )
            raise ConfigurationError(msg)
