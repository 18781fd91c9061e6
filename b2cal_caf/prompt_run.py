"""What ``b2cal caf run`` does: the work of ``b2caf-prompt-run``, from its two JSON files to exported payloads."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from b2cal_caf.layout import EXPORTED, RESULTS
from b2cal_caf.request_files import read_request
from b2cal_caf.requests import LoadedRequest, load_request
from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import Caf, CafObserver, CafRequest, CafResult


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """The options of the command.

    Attributes:
        max_files_per_job: overrides the script's splitting; exclusive with ``max_jobs``.
        overwrite_working_dir: remove the results of earlier runs first; otherwise they are resumed.
    """

    max_files_per_job: int | None = None
    max_jobs: int | None = None
    overwrite_working_dir: bool = False


def prompt_request(
    config_file: Path,
    input_file: Path,
    *,
    workdir: Path,
    scripts: Path | None = None,
    options: PromptOptions | None = None,
) -> CafRequest:
    """The request in the two files.

    Args:
        config_file: ``caf_config.json``.
        input_file: ``input_data.json``.
        workdir: where it is worked on.
        scripts: where the script is looked for when it does not lie beside the configuration.
        options: of the command.

    Raises:
        ConfigurationError: the files, or the options, cannot be used.
    """
    chosen = options or PromptOptions()
    request = read_request(config_file, input_file, directory=workdir.absolute(), scripts=scripts)
    given = {key: getattr(chosen, key) for key in ("max_files_per_job", "max_jobs") if getattr(chosen, key) is not None}
    if len(given) > 1:
        msg = "sub-jobs are limited by max_files_per_job or by max_jobs, not by both"
        raise ConfigurationError(msg)
    return replace(request, backend_args={**request.backend_args, **given})


def run_prompt(
    request: CafRequest, caf: Caf, observer: CafObserver, *, options: PromptOptions | None = None
) -> CafResult:
    """Run, or resume, the request; the outcome of every calibration is in the result."""
    if options is not None and options.overwrite_working_dir:
        for name in (RESULTS, EXPORTED):
            shutil.rmtree(request.directory / name, ignore_errors=True)
        (request.directory / "result.json").unlink(missing_ok=True)
    return caf.run(request, observer)


def dry_run(request: CafRequest) -> LoadedRequest:
    """Everything up to the first submission: script asked, calibrations checked; nothing is written."""
    return load_request(request)
