"""``caf_config.json`` and ``input_data.json``: a request as ``b2caf-prompt-run`` writes it, read and written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import write_json
from b2cal_caf.layout import RequestLayout
from b2cal_core.errors import ConfigurationError
from b2cal_core.failure_policies import FailurePolicy
from b2cal_core.ports import CafRequest
from b2cal_core.ranges import ExpRun, IoV

_REQUIRED = frozenset({"caf_script", "database_chain", "requested_iov"})
_KNOWN = _REQUIRED | {"backend_args", "expert_config", "failure_policy"}


def write_request(layout: RequestLayout, request: CafRequest) -> None:
    """Write both files into the request's directory."""
    config = {
        "caf_script": str(request.script.absolute()),
        "database_chain": list(request.database_chain),
        "requested_iov": request.requested_iov.as_tuple(),
        "backend_args": dict(request.backend_args),
        "expert_config": dict(request.expert_config),
    }
    inputs = {name: [[str(path), [*run]] for path, run in pairs] for name, pairs in request.input_data.items()}
    write_json(layout.config, config, for_people=True)
    write_json(layout.input_data, inputs, for_people=True)


def read_request(config_file: Path, input_file: Path, *, directory: Path, scripts: Path | None = None) -> CafRequest:
    """The request in two JSON files.

    Args:
        config_file: holds script, chain, requested IoV, and optionally backend_args, expert_config and failure_policy;
            the last is ours, ``b2caf-prompt-run`` knows none.
        input_file: input name to pairs of directory (or file) and run.
        directory: where the request is worked on.
        scripts: where the script is looked for when it is not found relative to the configuration file.

    Raises:
        ConfigurationError: one of the files is missing, no JSON, or not of this form; the message says where.
    """
    config = _object_in(config_file)
    missing, unknown = sorted(_REQUIRED - set(config)), sorted(set(config) - _KNOWN)
    if missing or unknown:
        problem = f"lacks {', '.join(missing)}" if missing else f"has unknown keys {', '.join(unknown)}"
        msg = f"{config_file} {problem}; it takes {', '.join(sorted(_KNOWN))}"
        raise ConfigurationError(msg)
    for key in ("backend_args", "expert_config", "failure_policy"):
        if not isinstance(config.get(key, {}), dict):
            msg = f"{key} in {config_file} must be an object, got {config[key]!r}"
            raise ConfigurationError(msg)
    return CafRequest(
        directory=directory,
        script=_script(config["caf_script"], config_file, scripts),
        database_chain=_chain(config["database_chain"], config_file),
        requested_iov=_iov(config["requested_iov"], config_file),
        input_data=_input_data(input_file),
        expert_config=config.get("expert_config", {}),
        backend_args=config.get("backend_args", {}),
        failure_policy=FailurePolicy.from_mapping(config.get("failure_policy", {}), f"failure_policy in {config_file}"),
    )


def _script(value: Any, config_file: Path, scripts: Path | None) -> Path:  # noqa: ANN401 (JSON)
    if not isinstance(value, str) or not value:
        msg = f"caf_script in {config_file} must be a file name, got {value!r}"
        raise ConfigurationError(msg)
    places = [config_file.absolute().parent / value, *([scripts / value] if scripts is not None else [])]
    for place in places:
        if place.is_file():
            return place
    msg = f"script {value} named in {config_file} is found neither as {' nor as '.join(map(str, places))}"
    raise ConfigurationError(msg)


def _chain(value: Any, config_file: Path) -> tuple[str, ...]:  # noqa: ANN401 (JSON)
    """Tags as they are; paths, which are told by a slash or by existing, relative to the configuration file."""
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        msg = f"database_chain in {config_file} must be a list of names, got {value!r}"
        raise ConfigurationError(msg)
    base = config_file.absolute().parent
    return tuple(str(base / entry) if "/" in entry or (base / entry).exists() else entry for entry in value)


def _iov(value: Any, config_file: Path) -> IoV:  # noqa: ANN401 (JSON)
    try:
        return IoV(*value)
    except (TypeError, ValueError) as error:
        msg = f"requested_iov in {config_file} must be [exp, run, exp, run], got {value!r}: {error}"
        raise ConfigurationError(msg) from error


def _input_data(input_file: Path) -> dict[str, tuple[tuple[Path, ExpRun], ...]]:
    base = input_file.absolute().parent
    return {
        name: tuple(_input_pair(pair, f"{name!r} in {input_file}", base) for pair in _pairs(pairs, name, input_file))
        for name, pairs in _object_in(input_file).items()
    }


def _pairs(value: Any, name: str, input_file: Path) -> list[Any]:  # noqa: ANN401 (JSON)
    if not isinstance(value, list):
        msg = f"{name!r} in {input_file} must be a list of [directory, [exp, run]], got {value!r}"
        raise ConfigurationError(msg)
    return value


def _input_pair(pair: Any, where: str, base: Path) -> tuple[Path, ExpRun]:  # noqa: ANN401 (JSON)
    try:
        place, (exp, run) = pair
        return base / place, ExpRun(int(exp), int(run))
    except (TypeError, ValueError) as error:
        msg = f"an entry of {where} must be [directory, [exp, run]], got {pair!r}: {error}"
        raise ConfigurationError(msg) from error


def _object_in(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ConfigurationError(msg) from error
    except ValueError as error:
        msg = f"{path} is no valid JSON: {error}"
        raise ConfigurationError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} must hold a JSON object, it holds {type(content).__name__}"
        raise ConfigurationError(msg)
    return content
