"""What a basf2 release says of its calibration and validation scripts, through ``b2caf-prompt-show``."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from b2cal_core.errors import CatalogueError, ConfigurationError, reasons_of
from b2cal_core.settings import CalibrationSettings, Catalogue, ValidationSettings
from resources.caf.basf2_environment import Answer, Basf2Environment

SHOW = "b2caf-prompt-show"
_NO_SCRIPT = "has no attribute 'settings'"
"""What Python says of a module beside the scripts that is none itself."""


def show_settings(
    environment: Basf2Environment, script: str, *, check: Callable[[], None] = lambda: None
) -> CalibrationSettings:
    """The settings of the calibration script of that file name; ``check`` is called while waiting, and may raise.

    Raises:
        ConfigurationError: the release cannot be used, or has no such script, or one that cannot be used.
    """
    (answer,) = environment.answers([[SHOW, "--script-name", script, "--json"]], check=check)
    fields = _known_fields(_settings_in(answer, script), CalibrationSettings.model_fields)
    try:
        return CalibrationSettings.model_validate(fields)
    except ValidationError as error:
        msg = f"the settings of script {script} of the basf2 release are not valid: {reasons_of(error)}"
        raise ConfigurationError(msg) from error


def show_validation(
    environment: Basf2Environment, script: str, *, check: Callable[[], None] = lambda: None
) -> ValidationSettings:
    """The settings of a validation script of the release; as ``show_settings``."""
    (answer,) = environment.answers([[SHOW, "--script-name", script, "--validation", "--json"]], check=check)
    fields = _known_fields(_settings_in(answer, script), ValidationSettings.model_fields)
    try:
        return ValidationSettings.model_validate(fields)
    except ValidationError as error:
        msg = f"the settings of validation {script} of the basf2 release are not valid: {reasons_of(error)}"
        raise ConfigurationError(msg) from error


def read_basf2_catalogue(environment: Basf2Environment, *, log: Callable[[str], None]) -> Catalogue:
    """The catalogue of all calibration scripts of the release.

    Fields that the platform does not know are passed over; so are modules beside the scripts that have no settings,
    which are told to ``log``.

    Raises:
        ConfigurationError: the release cannot be used, or does not answer as documented.
        CatalogueError: a script cannot be used, or they do not fit together.
    """
    (listed,) = environment.answers([[SHOW, "--json"]])
    names = sorted(name for name in _names_in(listed) if PurePath(name).stem != "__init__")
    answers = environment.answers([[SHOW, "--script-name", name, "--json"] for name in names])
    fields: dict[str, Mapping[str, Any]] = {}
    broken = []
    for name, answer in zip(names, answers, strict=True):
        if answer.code != 0 and _NO_SCRIPT in answer.problem:
            log(f"{name} has no settings and is left out: it is no calibration script")
            continue
        try:
            shown = _settings_in(answer, name)
        except ConfigurationError as error:
            broken.append(str(error))
            continue
        fields[PurePath(name).stem] = _known_fields(shown, CalibrationSettings.model_fields)
    if broken:
        msg = f"{len(broken)} scripts of the basf2 release cannot be used: {'; '.join(broken)}"
        raise CatalogueError(msg)
    return Catalogue.from_json(fields)


def _names_in(answer: Answer) -> Sequence[str]:
    names = _json_in(answer.stdout, list) if answer.code == 0 else None
    if not names or not all(isinstance(name, str) for name in names):
        msg = (
            f"{SHOW} --json must list the calibration scripts of the release, it ended with code {answer.code} and "
            f"said {_shortened(answer.problem if answer.code else answer.stdout)!r}; is this a complete release?"
        )
        raise ConfigurationError(msg)
    return list(names)


def _settings_in(answer: Answer, script: str) -> Mapping[str, Any]:
    if answer.code != 0:
        msg = f"script {script} cannot be used in the basf2 release: {answer.problem or f'exit code {answer.code}'}"
        raise ConfigurationError(msg)
    shown = _json_in(answer.stdout, dict)
    if shown is None:
        msg = (
            f"{SHOW} must answer with the settings of {script} as a JSON object, it said {_shortened(answer.stdout)!r}"
        )
        raise ConfigurationError(msg)
    return dict(shown)


def _json_in(text: str, kind: type) -> Any:  # noqa: ANN401 (JSON)
    """The value of that kind that the text is, or that its last line with one is; basf2 may log before it."""
    for part in (text, *reversed(text.splitlines())):
        try:
            value = json.loads(part)
        except ValueError:
            continue
        if isinstance(value, kind):
            return value
    return None


def _known_fields(shown: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """What the platform knows of it; what basf2 leaves undefined has the platform's default."""
    return {name: value for name, value in shown.items() if name in known and value is not None}


def _shortened(text: str) -> str:
    return text.strip()[:200]
