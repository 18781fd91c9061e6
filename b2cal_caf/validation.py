"""Running a validation script on what a CAF request left behind; its figures are kept in ``figures.json``."""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.collector_identity import code_hash
from b2cal_caf.forks import start_child, wait_for
from b2cal_caf.job_failures import failing_lines
from b2cal_caf.layout import RequestLayout
from b2cal_caf.local_database import TEXT_FILE, LocalDatabase
from b2cal_caf.scripts import load_script, read_validation
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ports import ValidationRequest
from b2cal_core.verdicts import Figure, Threshold

FIGURES = "figures.json"
_BACKEND = "Agg"


def run_validation_script(request: ValidationRequest) -> list[Figure]:
    """The figures of merit; what was judged before, with the same script and the same payloads, is not judged again.

    Raises:
        ConfigurationError: the script cannot be used, or failed; the message says how and where its log is.
        DataError: the request has no payloads to be judged.
    """
    os.environ.setdefault("MPLBACKEND", _BACKEND)  # plots go to files, whoever imports the package first
    settings = read_validation(request.script)
    identity = _identity(request)
    file = request.directory / FIGURES
    kept = read_json(file)
    if isinstance(kept, dict) and kept.get("identity") == identity:
        return [_figure_of(item) for item in kept["figures"]]
    shutil.rmtree(request.directory, ignore_errors=True)
    request.directory.mkdir(parents=True)
    _fetch(request, settings.download_files)
    _run_in_child(request, {**settings.expert_config, **request.expert_config}, identity)
    return [_figure_of(item) for item in read_json(file)["figures"]]


def _run_in_child(request: ValidationRequest, config: Mapping[str, Any], identity: str) -> None:
    log = request.directory / "validation_stdout"

    def work() -> int:
        if "matplotlib" in sys.modules:
            sys.modules["matplotlib"].use(_BACKEND)
        figures = _judge(request, config)
        content = [asdict(figure) | {"verdict": figure.verdict.value} for figure in figures]
        write_json(request.directory / FIGURES, {"identity": identity, "figures": content}, for_people=True)
        return 0

    child = start_child(work, directory=request.directory, stdout=log, stderr=log)
    try:
        while child.poll() is None:
            wait_for([child], None)
    finally:
        code = child.stop()
    if code != 0:
        reason = (
            f"it was killed by signal {-code} ({signal.Signals(-code).name})"
            if code < 0
            else failing_lines(log) or f"it ended with exit code {code}"
        )
        msg = f"validation {request.script} failed: {reason}; see {log}"
        raise ConfigurationError(msg)


def _judge(request: ValidationRequest, config: Mapping[str, Any]) -> list[Figure]:
    inputs = RequestLayout(request.job_path).input_data
    figures = load_script(request.script).run_validation(
        request.job_path,
        inputs if inputs.exists() else None,
        request.requested_iov,
        dict(config),
        output_dir=request.directory,
        previous=None if request.previous is None else LocalDatabase(request.previous),
    )
    found = list(figures or ())
    names = [figure.name for figure in found if isinstance(figure, Figure)]
    if len(names) < len(found) or len(set(names)) < len(names):
        msg = f"run_validation of {request.script} must return figures with names of their own, it returned {figures!r}"
        raise ConfigurationError(msg)
    return found


def _fetch(request: ValidationRequest, names: tuple[str, ...]) -> None:
    """Copy the files that the script wants to have at hand; those of one name keep their directories."""
    target = request.directory / "download_files"
    for name in names:
        found = sorted(path for path in request.job_path.rglob(name) if path.is_file())
        if not found:
            msg = f"validation {request.script} wants the file {name}, but {request.job_path} holds none"
            raise DataError(msg)
        for path in found:
            place = target / (path.name if len(found) == 1 else path.relative_to(request.job_path))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _identity(request: ValidationRequest) -> str:
    """A hash of all that the figures depend on: script, configuration, and payloads now and before."""
    exported = sorted(RequestLayout(request.job_path).all_exported.glob(f"*/{TEXT_FILE}"))
    if not exported:
        msg = f"{request.job_path} holds no exported payloads to validate; run its calibration first"
        raise DataError(msg)
    before = None if request.previous is None else LocalDatabase(request.previous).text_file
    databases = [*exported, *([before] if before is not None and before.exists() else [])]
    content = [
        code_hash(load_script(request.script)),
        request.requested_iov.as_tuple(),
        dict(request.expert_config),
        [[path.parent.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in databases],
        [hashlib.sha256(entry.file.read_bytes()).hexdigest() for path in databases for entry in _entries(path)],
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _entries(text_file: Path) -> tuple[Any, ...]:
    return LocalDatabase(text_file).entries()


def _figure_of(item: Mapping[str, Any]) -> Figure:
    fields = {key: value for key, value in item.items() if key not in {"threshold", "verdict"}}
    return Figure(threshold=Threshold.from_json(item["threshold"]), **fields)
