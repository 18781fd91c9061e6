"""From a request to the calibrations it asks for: the script, its input data, and the identity of it all."""

import hashlib
import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2cal_caf.calibration import Calibration
from b2cal_caf.checks import check_calibrations
from b2cal_caf.collector_identity import code_hash
from b2cal_caf.constants import ConstantsSource
from b2cal_caf.input_files import file_identity
from b2cal_caf.scripts import load_script, read_settings
from b2cal_core.errors import CalibrationError, ConfigurationError
from b2cal_core.ports import CafRequest
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import CalibrationSettings

_PLATFORM_FORMAT = 1
"""Raised when the platform changes such that finished requests must be done again."""


@dataclass(frozen=True, slots=True)
class LoadedRequest:
    """A request with what its script made of it.

    Attributes:
        rejected: input files that could not even be offered to the script, with the reason.
        remarks: lines for the log.
    """

    request: CafRequest
    settings: CalibrationSettings
    calibrations: tuple[Calibration, ...]
    rejected: Mapping[str, str]
    remarks: tuple[str, ...]


def load_request(request: CafRequest) -> LoadedRequest:
    """Ask the script for its calibrations.

    Raises:
        ConfigurationError: the script cannot be used, lacks an input, or returns calibrations that cannot work.
        CalibrationError: whatever the script itself raised on purpose, for instance that its input is too little.
    """
    settings = read_settings(request.script)
    files, rejected = _offered(request, settings)
    config = {**settings.expert_config, **request.expert_config}
    unknown = sorted(set(request.expert_config) - set(settings.expert_config))
    remarks = [f"expert_config has keys that the script does not declare: {', '.join(unknown)}"] if unknown else []
    returned = _ask_script(request, files, config)
    calibrations = check_calibrations(returned, request.script)
    remarks += _drop_foreign_dependencies(calibrations)
    remarks += _apply_backend_args(calibrations, request.backend_args)
    return LoadedRequest(request, settings, calibrations, rejected, tuple(remarks))


def request_identity(request: CafRequest, constants: ConstantsSource) -> str:
    """A hash of all that the result depends on: script, configuration, input files and constants."""
    content = {
        "format": _PLATFORM_FORMAT,
        "script": [request.script.name, code_hash(load_script(request.script))],
        "requested_iov": request.requested_iov.as_tuple(),
        "expert_config": request.expert_config,
        "splitting": {key: request.backend_args[key] for key in _SPLITTING if key in request.backend_args},
        "input_data": {
            name: [_identified(*pair) for pair in pairs] for name, pairs in sorted(request.input_data.items())
        },
        "constants": constants.identity(request.database_chain, within=request.requested_iov),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _identified(path: Path, run: ExpRun) -> list[Any]:
    files = sorted(path.glob("*.root")) if path.is_dir() else [path]
    return [str(run), *(file_identity(file, file.stat()) if file.exists() else f"{file} missing" for file in files)]


def _offered(request: CafRequest, settings: CalibrationSettings) -> tuple[dict[str, dict[str, IoV]], dict[str, str]]:
    """Input name to file to the IoV of its run, as scripts take it."""
    missing = sorted(settings.input_data_names - set(request.input_data))
    if missing:
        msg = (
            f"calibration {settings.name!r} needs the inputs {', '.join(sorted(settings.input_data_names))}; "
            f"input_data lacks {', '.join(missing)}"
        )
        raise ConfigurationError(msg)
    rejected: dict[str, str] = {}
    offered: dict[str, dict[str, IoV]] = {}
    for name in sorted(settings.input_data_names):
        files = offered.setdefault(name, {})
        for path, run in request.input_data[name]:
            for file in sorted(path.glob("*.root")) if path.is_dir() else (path,):
                if str(file) in files:
                    rejected[str(file)] = "it is listed twice"
                files.setdefault(str(file.absolute()), IoV(*run, *run))
    return offered, rejected


def _ask_script(request: CafRequest, files: Mapping[str, Mapping[str, IoV]], config: Mapping[str, Any]) -> Any:  # noqa: ANN401 (unchecked yet)
    module = load_script(request.script)
    try:
        return module.get_calibrations(files, requested_iov=request.requested_iov, expert_config=dict(config))
    except CalibrationError:
        raise
    except Exception as error:
        script = str(request.script.resolve())
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == script]
        where = f", line {lines[-1]}" if lines else ""
        msg = f"get_calibrations of {request.script}{where} raised {type(error).__name__}: {error}"
        raise ConfigurationError(msg) from error


def _drop_foreign_dependencies(calibrations: tuple[Calibration, ...]) -> list[str]:
    """Forget dependencies on calibrations that the script did not return."""
    remarks = []
    for calibration in calibrations:
        foreign = [other for other in calibration.dependencies if other not in calibrations]
        for other in foreign:
            calibration.dependencies.remove(other)
            remarks.append(
                f"calibration {calibration.name} depends on {other.name}, which the script does not return; "
                "the dependency is dropped"
            )
    return remarks


_SPLITTING = ("max_files_per_job", "max_jobs")
_MEMORY_UNITS = {"KB": 1e-3, "MB": 1.0, "GB": 1000.0, "TB": 1e6}


def _apply_backend_args(calibrations: tuple[Calibration, ...], args: Mapping[str, Any]) -> list[str]:
    """Let the request override memory and splitting of all collections; returns remarks on what it cannot."""
    if all(args.get(key) is not None for key in _SPLITTING):
        msg = f"backend_args gives both {' and '.join(_SPLITTING)}; give one"
        raise ConfigurationError(msg)
    for calibration in calibrations:
        for collection in calibration.collections.values():
            if "request_memory" in args:
                collection.memory = _megabytes(args["request_memory"])
            if "request_seconds" in args:
                collection.seconds = _seconds(args["request_seconds"])
            if any(key in args for key in _SPLITTING):
                collection.max_files_per_job = args.get("max_files_per_job")
                collection.max_jobs = args.get("max_jobs")
    other = sorted(set(args) - {"request_memory", "request_seconds", *_SPLITTING})
    return [f"backend_args has keys that are not used here: {', '.join(other)}"] if other else []


def _megabytes(value: Any) -> int:  # noqa: ANN401 (checked here)
    """Memory given as MB or, as batch systems write it, with a unit: ``4 GB``."""
    number, _, unit = str(value).strip().partition(" ")
    try:
        return round(float(number) * _MEMORY_UNITS[(unit.strip() or "MB").upper()])
    except (ValueError, KeyError):
        msg = f"request_memory must be a number of MB or like '4 GB', got {value!r}"
        raise ConfigurationError(msg) from None


def _seconds(value: Any) -> int:  # noqa: ANN401 (checked here)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"request_seconds must be a whole number of seconds, 1 at least, got {value!r}"
        raise ConfigurationError(msg)
    return value
