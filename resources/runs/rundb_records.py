"""A run as Belle II's run registry tells it, and what it is to calibrations.

The names of the fields are the server's. Files and, unless the server has it, the beam energy are not among them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from b2cal_core.errors import DataError
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import RunRecord

_ON_FIELD = 1000.0
"""Gauss of the solenoid from which on it counts as on; it is run at 15 000."""
_LONG = timedelta(minutes=30)
_GOOD, _USABLE = {"GOOD"}, {"GOOD", "RECOVERABLE"}


def run_of(entry: Any) -> RunRecord | None:  # noqa: ANN401 (JSON)
    """The run without files, or ``None`` while it goes on.

    Raises:
        DataError: the entry lacks what a run must have; the message names run and field.
    """
    try:
        if entry["time_stop"] is None:
            return None
        run = ExpRun(int(entry["experiment"]), int(entry["run"]))
        started, ended = _moment(entry["time_start"]), _moment(entry["time_stop"])
        field = (entry.get("detectors") or {}).get("magnet_solenoid_field") or 0.0
        return RunRecord(
            run,
            str(entry["run_type"]),
            str(entry.get("beam_energy") or ""),
            "On" if float(field) >= _ON_FIELD else "Off",
            _quality(entry, ended - started),
            started,
            ended,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"the run registry tells of a run that cannot be read ({type(error).__name__}: {error}) {_named(entry)}; "
            "ask who looks after it"
        ) from error


def _quality(entry: Mapping[str, Any], lasted: timedelta) -> frozenset[str]:
    """The quality tags that calibrations ask for."""
    experts, shifters = entry.get("quality_expert") or {}, entry.get("quality_shifter") or {}
    tags = {
        "Good": _all(experts, _GOOD),
        "Good Or Recoverable": _all(experts, _USABLE),
        "Good For PXD": _flag(experts.get("pxd")) in _GOOD,
        "Good Shifter": _all(shifters, _GOOD),
        "Good Or Recoverable Shifter": _all(shifters, _USABLE),
        ">=30 Minute Run": lasted >= _LONG,
    }
    return frozenset(tag for tag, holds in tags.items() if holds)


def _all(flags: Mapping[str, Any], accepted: set[str]) -> bool:
    """Whether every detector that has a flag has one of these; without any flag nothing is known, and nothing good."""
    given = [_flag(flag) for flag in flags.values() if flag]
    return bool(given) and all(flag in accepted for flag in given)


def _flag(flag: object) -> str:
    return str(flag).upper()


def _moment(text: str) -> datetime:
    """The moment; without a zone it is in UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _named(entry: object) -> str:
    if not isinstance(entry, Mapping):
        return f"({type(entry).__name__} where an object is expected)"
    return f"(experiment {entry.get('experiment')}, run {entry.get('run')})"
