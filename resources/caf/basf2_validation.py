"""basf2's validation scripts, run through ``b2val-prompt-run``.

They write plots and tables for people, and judge nothing: figures of merit there are only where a script leaves a
``figures.json`` of its own, a list of figures as ``b2cal_caf.validation`` writes them.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.job_failures import failing_lines
from b2cal_caf.layout import RequestLayout
from b2cal_caf.local_database import TEXT_FILE, LocalDatabase
from b2cal_core.errors import BackendError, ConfigurationError, DataError
from b2cal_core.ports import ValidationRequest
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from resources.caf.basf2_catalogue import show_validation
from resources.caf.basf2_environment import Basf2Environment, read_end
from resources.caf.basf2_options import Basf2Options
from resources.caf.basf2_process import start_script

TOOL = "b2val-prompt-run"
_FIGURES = "figures.json"
_DONE = "basf2_validation.json"
_SIGNALS = 128
_LOOK_SECONDS = 0.1


class Basf2Validation:
    """Runs the validation scripts of a basf2 release.

    What the script writes lies in the request's directory afterwards, with what the tool said in ``validation_stdout``
    and ``validation_stderr``. The payloads before the bucket cannot be handed to a basf2 script: ``previous`` counts
    for nothing.

    Args:
        environment: of the release.
        backend: ``Local``, ``LSF``, ``PBS`` or ``HTCondor``.
        options: of the tool.
    """

    def __init__(
        self, environment: Basf2Environment, backend: str = "Local", options: Basf2Options | None = None
    ) -> None:
        self._environment = environment
        self._backend = backend
        self._arguments = (options or Basf2Options()).arguments(backend)

    def run(self, request: ValidationRequest) -> list[Figure]:
        """The figures of merit, often none; what was validated before, with the same payloads, is not done again.

        Raises:
            ConfigurationError: the release or the script cannot be used, or failed; the message says where its log is.
            DataError: the request has no payloads to be validated.
            BackendError: the tool was killed.
        """
        identity = self._identity(request)
        kept = read_json(request.directory / _DONE)
        if isinstance(kept, dict) and kept.get("identity") == identity:
            return [_figure_of(item) for item in kept["figures"]]
        settings = show_validation(self._environment, request.script.name)
        self._run_tool(request, settings)
        figures = _figures_left(request)
        content = [asdict(figure) | {"verdict": figure.verdict.value} for figure in figures]
        write_json(request.directory / _DONE, {"identity": identity, "figures": content}, for_people=True)
        return figures

    def _run_tool(self, request: ValidationRequest, settings: ValidationSettings) -> None:
        directory = request.directory.absolute()
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        inputs = RequestLayout(request.job_path.absolute()).input_data
        config = {
            "validation_script": request.script.name,
            "job_path": str(request.job_path.absolute()),
            "input_data_path": str(inputs),
            "download_files": list(settings.download_files),
            "requested_iov": request.requested_iov.as_tuple(),
            "expert_config": dict(request.expert_config),
        }
        write_json(directory / "validation_config.json", config, for_people=True)
        command = [TOOL, self._backend, "validation_config.json", str(inputs), *self._arguments]
        end, stdout, stderr = (directory / f"validation_{name}" for name in ("end", "stdout", "stderr"))
        script = directory / "validation_run.sh"
        script.write_text(self._environment.script(command, end))
        process = start_script(script, directory, stdout=stdout, stderr=stderr)
        try:
            process.go()
            process.wait(_LOOK_SECONDS)
        finally:
            process.stop()
        ended = read_end(end)
        if ended is None or ended.code > _SIGNALS:
            how = "" if ended is None else f" by signal {ended.code - _SIGNALS}"
            msg = f"{TOOL} was killed{how} while it ran {request.script.name}; run again"
            raise BackendError(msg, transient=True)
        self._environment.check(ended, TOOL, stderr)
        if ended.code != 0:
            why = failing_lines(stderr) or failing_lines(stdout) or f"it ended with exit code {ended.code}"
            msg = f"validation {request.script.name} failed: {why}; see {stderr} and {stdout}"
            raise ConfigurationError(msg)

    def _identity(self, request: ValidationRequest) -> str:
        """A hash of all that the validation depends on, as far as it can be seen from outside basf2."""
        exported = sorted(RequestLayout(request.job_path).all_exported.glob(f"*/{TEXT_FILE}"))
        if not exported:
            msg = f"{request.job_path} holds no exported payloads to validate; run its calibration first"
            raise DataError(msg)
        payloads = [(file.parent.name, entry) for file in exported for entry in LocalDatabase(file).entries()]
        content = [
            self._environment.setup,
            request.script.name,
            _hash_of(request.script) if request.script.is_file() else None,
            request.requested_iov.as_tuple(),
            dict(request.expert_config),
            [[name, entry.name, str(entry.iov), _hash_of(entry.file)] for name, entry in payloads],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _figures_left(request: ValidationRequest) -> list[Figure]:
    """What the script left as ``figures.json``: a list of figures, or an object that holds one as ``figures``."""
    file = request.directory / _FIGURES
    if not file.exists():
        return []
    left = read_json(file)
    listed: Any = left.get("figures") if isinstance(left, dict) else left
    try:
        figures = [_figure_of(item) for item in listed]
    except (TypeError, KeyError, AttributeError, ConfigurationError) as error:
        msg = (
            f"validation {request.script.name} left {file}, which is no list of figures with name, value and "
            f"threshold: {error!r}"
        )
        raise ConfigurationError(msg) from error
    if len({figure.name for figure in figures}) < len(figures):
        msg = f"validation {request.script.name} left two figures of one name in {file}; name them apart"
        raise ConfigurationError(msg)
    return figures


def _figure_of(item: Mapping[str, Any]) -> Figure:
    fields = {key: value for key, value in item.items() if key not in {"threshold", "verdict"}}
    return Figure(threshold=Threshold.from_json(item.get("threshold", {})), **fields)


def _hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
