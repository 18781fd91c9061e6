"""The command ``b2cal``: its options, its groups of commands, and how errors reach people."""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from b2cal_cli import bucket, caf, campaign, catalogue, cdb, impact, latency, notify, runs, signoff, storage, what_if
from b2cal_cli.bucket_data import data
from b2cal_cli.bucket_forecast import forecast
from b2cal_cli.bucket_why import why
from b2cal_cli.campaign_log import log
from b2cal_cli.demo_command import demo
from b2cal_cli.replay import replay
from b2cal_cli.session import Session, WrongUsage
from b2cal_cli.up import up
from b2cal_core.errors import CalibrationError

_FAILED, _WRONG_USAGE, _INTERRUPTED = 1, 2, 130
_GLOBAL_FLAGS, _GLOBAL_OPTIONS = frozenset({"--debug"}), frozenset({"--home"})

app = typer.Typer(
    name="b2cal",
    help="Runs in, validated and published constants out: the automated calibration of a particle detector.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command()(demo)
app.command()(up)
app.command()(replay)
bucket.app.command()(why)
bucket.app.command()(data)
bucket.app.command()(forecast)
campaign.app.command()(log)
what_if.register(bucket.app)
for _group in (runs, campaign, bucket, caf, catalogue, signoff, cdb, storage, notify, impact, latency):
    app.add_typer(_group.app)


@app.callback()
def root(
    ctx: typer.Context,
    home: Annotated[
        Path | None,
        typer.Option(help="Directory with all state; by default B2CAL_HOME, else ./b2cal-home. May stand anywhere."),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the program an error arose. May stand anywhere.")
    ] = False,
) -> None:
    """Options of all commands."""
    ctx.obj = Session(home, debug)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line, and end the process: 0 done, 1 the work failed, 2 wrong usage."""
    ordered = globals_first(sys.argv[1:] if args is None else args)
    _one_thread_per_process()
    try:
        app(args=ordered, prog_name="b2cal")
    except Exception as error:
        if "--debug" in ordered:
            raise
        sys.exit(_report(error))
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            sys.stderr.write("b2cal: interrupted; finished work is kept, the same command goes on with it\n")
        raise


def _one_thread_per_process() -> None:
    """Jobs use all processors already: threads of linear algebra would only take them from each other.

    The library reads this when numpy is imported, which only commands do; what the user has set is kept.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")


def globals_first(args: Sequence[str]) -> list[str]:
    """The arguments with the options of all commands in front, wherever they stood before ``--``."""
    front: list[str] = []
    rest: list[str] = []
    remaining = iter(args)
    for word in remaining:
        if word == "--":
            return [*front, *rest, word, *remaining]
        if word in _GLOBAL_FLAGS or (word.partition("=")[0] in _GLOBAL_OPTIONS and "=" in word):
            front.append(word)
        elif word in _GLOBAL_OPTIONS:
            front += [word, *(value for value in [next(remaining, None)] if value is not None)]
        else:
            rest.append(word)
    return [*front, *rest]


def _report(error: Exception) -> int:
    """Say the error in one sentence, and return the exit code."""
    match error:
        case WrongUsage():
            sentence, code = str(error), _WRONG_USAGE
        case CalibrationError():
            sentence, code = str(error), _FAILED
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            sentence, code = f"the disk is full ({error}); free some space, the same command goes on", _FAILED
        case OSError():
            sentence, code = str(error), _FAILED
        case _:
            sentence = f"unexpected {type(error).__name__}: {error}; please report it with what --debug shows"
            code = _FAILED
    sys.stderr.write(f"b2cal: {sentence}\n")
    return code
