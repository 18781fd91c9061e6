"""What the named fakes of the basf2 tools share: finding scripts, logging, and the options of the batch systems.

These are fakes: no basf2 is involved. They speak the documented interface of the tools (options and defaults, files
read and written, exit codes, layout of directories, state database), and run scripts written for the embedded CAF, so
that real payloads come out. Scripts are looked for where basf2 looks first: below ``$BELLE2_LOCAL_DIR``.
"""

import argparse
import os
import sys
from pathlib import Path

from b2cal_caf.scripts import load_script

CALIBRATIONS = "calibration/scripts/prompt/calibrations"
VALIDATIONS = "calibration/scripts/prompt/validations"


def log(level: str, message: str) -> None:
    """A line as basf2 logs it, to standard output."""
    sys.stdout.write(f"[{level}] {message}\n")
    sys.stdout.flush()


def script_directory(*, validation: bool = False) -> Path:
    """Where the release keeps its scripts."""
    return Path(os.environ["BELLE2_LOCAL_DIR"]) / (VALIDATIONS if validation else CALIBRATIONS)


def import_script(name: str, *, validation: bool = False):
    """The module of a script, by the stem of its name; ``ModuleNotFoundError`` when the release has none."""
    package = "prompt.validations" if validation else "prompt.calibrations"
    path = script_directory(validation=validation) / f"{Path(name).stem}.py"
    if not path.is_file():
        raise ModuleNotFoundError(f"No module named '{package}.{path.stem}'")
    return load_script(path)


def parser_of(description: str, files: tuple[str, str], *, exports: bool) -> argparse.ArgumentParser:
    """The command line that ``b2caf-prompt-run`` and ``b2val-prompt-run`` have, one sub-command per batch system."""
    parser = argparse.ArgumentParser(description=description)
    backends = parser.add_subparsers(dest="backend", required=True)
    for backend in ("Local", "LSF", "PBS", "HTCondor"):
        options = backends.add_parser(backend)
        if backend == "Local":
            options.add_argument("--max-processes", type=int, default=4)
        else:
            options.add_argument("--global-job-limit", type=int, default=1000)
            options.add_argument("--submission-check-heartbeat", type=int, default=30)
        for name in {"LSF": ["queue"], "PBS": ["queue"], "HTCondor": ["getenv", "universe", "path-prefix"]}.get(
            backend, []
        ):
            options.add_argument(f"--{name}")
        for name in files:
            options.add_argument(name)
        _add_common(options, exports=exports)
    return parser


def _add_common(options: argparse.ArgumentParser, *, exports: bool) -> None:
    levels = ["DEBUG", "INFO", "RESULT", "WARNING", "ERROR", "FATAL"]
    options.add_argument("--log-level", choices=levels, default="INFO")
    options.add_argument("--debug-level", type=int)
    options.add_argument("--heartbeat", type=int, default=60)
    splitting = options.add_mutually_exclusive_group()
    splitting.add_argument("--max-files-per-subjob", dest="files_per_subjob", type=int)
    splitting.add_argument("--max-subjobs", type=int)
    options.add_argument("--dry-run", action="store_true")
    options.add_argument("--overwrite-working-dir", dest="overwrite_workdir", action="store_true")
    if exports:
        options.add_argument("--overwrite-output-db", dest="overwrite_db", action="store_true")
