"""What a decision may come with on the command line: the end of a waiver, and what a rejection wants done otherwise."""

import getpass
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2cal_cli.session import WrongUsage

if TYPE_CHECKING:
    from b2cal_core.buckets import Bucket
    from b2cal_core.redo import Redo
    from b2cal_core.settings import CalibrationSettings

_RUN = re.compile(r"(\d+):(\d+)")
_CONFIG = "expert_config="


@dataclass(frozen=True, slots=True)
class Said:
    """What the author of a decision says; ``author`` is by default who runs the command."""

    reason: str
    author: str | None
    until: datetime | None = None
    figure: str = ""
    redo: "Redo | None" = None


def person(author: str | None) -> str:
    """Who decides, by default who runs the command; ``WrongUsage`` when that is the name of a rule."""
    from b2cal_core.verdicts import RULE_AUTHOR

    who = author or getpass.getuser()
    if who.startswith(RULE_AUTHOR):
        raise WrongUsage(f"{who!r} is the name of a rule; a person decides here")
    return who


def reason_of(text: str) -> str:
    """Why something is decided; ``WrongUsage`` when that is blank."""
    if not text.strip():
        raise WrongUsage("a decision needs a reason; give one with --reason")
    return text


def end_of(text: str) -> datetime:
    """The end of a waiver in UTC: of the day that is given, or the very moment; ``WrongUsage`` when it has passed."""
    try:
        if len(text) == len("2026-01-31"):
            end = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
        else:
            end = datetime.fromisoformat(text)
    except ValueError as error:
        known = "a day like 2026-08-31, or a moment like 2026-08-31T12:00+00:00"
        raise WrongUsage(f"--until takes {known}: {error}") from error
    if end.tzinfo is None:
        raise WrongUsage(f"--until {text} has no time zone; add +00:00 for UTC, or give a day only")
    if end <= datetime.now(UTC):
        raise WrongUsage(f"--until {text} has passed, so the waiver would let nothing through; give a later day")
    return end.astimezone(UTC)


def redo_of(
    bucket: "Bucket",
    settings: "CalibrationSettings",
    *,
    config: str | None,
    excluded: Sequence[str],
    boundaries: str | None,
    anew: bool,
) -> "Redo | None":
    """What the options ask for; ``None`` when they ask for nothing.

    Args:
        bucket: which is to have every run that is named.
        settings: of the calibration, whose script must read every key.
        config: ``expert_config=`` and JSON, or ``@`` and a file with it.
        excluded: runs, each as ``EXP:RUN``.
        boundaries: first runs, separated by commas; empty for none.
        anew: what earlier rejections asked for no longer counts.

    Raises:
        WrongUsage: an option cannot be read, names a run outside the bucket, or a key that the script does not read.
    """
    from b2cal_core.redo import BOUNDARIES_KEY, Redo

    words = None if boundaries is None else [word for word in boundaries.split(",") if word.strip()]
    redo = Redo(
        expert_config=_config(config) if config is not None else {},
        excluded_runs=tuple(run_of(word.strip()) for word in excluded),
        boundaries=None if words is None else tuple(run_of(word.strip(), "--boundaries") for word in words),
        anew=anew,
    )
    for option, runs in {"--exclude-run": redo.excluded_runs, "--boundaries": redo.boundaries or ()}.items():
        _refuse_strangers(option, runs, bucket)
    unknown = sorted(set(redo.config) - set(settings.expert_config))
    if unknown:
        known = ", ".join(settings.expert_config) or "none"
        hint = "; its script cannot be told boundaries" if BOUNDARIES_KEY in unknown else ""
        raise WrongUsage(f"expert_config of {settings.name!r} has no key {', '.join(unknown)}; it has {known}{hint}")
    return None if redo.is_empty else redo


def _refuse_strangers(option: str, runs: Iterable[tuple[int, int]], bucket: "Bucket") -> None:
    from b2cal_core.ranges import ExpRun

    strangers = [f"{exp}:{run}" for exp, run in runs if not bucket.contains(ExpRun(exp, run))]
    if strangers:
        raise WrongUsage(
            f"{option}: {', '.join(strangers)} is not in bucket {bucket.key}, which goes from {bucket.first} to"
            f" {bucket.last}; give a run of the bucket"
        )


def _config(text: str) -> dict[str, Any]:
    written = text.removeprefix(_CONFIG)
    try:
        value = json.loads(Path(written[1:]).read_text(encoding="utf-8") if written.startswith("@") else written)
    except (OSError, ValueError) as error:
        known = "expert_config=JSON or expert_config=@FILE"
        raise WrongUsage(f"--redo-with takes {known}, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise WrongUsage(f'--redo-with takes an object of keys and values, like {{"min_hits": 5}}, got {text!r}')
    return value


def run_of(word: str, option: str = "--exclude-run") -> tuple[int, int]:
    """The run written as ``EXP:RUN`` for an option; ``WrongUsage`` when it is not."""
    found = _RUN.fullmatch(word)
    if found is None:
        raise WrongUsage(f"{option} takes a run as EXP:RUN, for example 12:345; got {word!r}")
    return int(found[1]), int(found[2])
