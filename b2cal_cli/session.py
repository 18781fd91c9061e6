"""What every command shares: the home it works on, and how it says that it was called wrongly.

Only what is quick to import is imported at the top of this package's command modules, so that ``b2cal --help``
answers at once; commands import what they need when they run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from b2cal_core.errors import CalibrationError, ConfigurationError

if TYPE_CHECKING:
    from resources.home import Home


class WrongUsage(CalibrationError):  # noqa: N818 (named as people say it)
    """The command was given something that does not exist or does not fit; exit code 2."""


@dataclass(frozen=True, slots=True)
class Session:
    """The options before the command's name."""

    home: Path | None = None
    debug: bool = False


def home_of(ctx: typer.Context, *, make: bool = False) -> "Home":
    """The home of ``--home``, else of ``B2CAL_HOME``, else ``./b2cal-home``; made if missing and ``make`` says so.

    Raises:
        WrongUsage: there is no such directory, and the command only reads.
    """
    from resources.home import HOME_VARIABLE

    home = named_home(ctx)
    if not make and not home.path.is_dir():
        is_chosen = _session(ctx).home or os.environ.get(HOME_VARIABLE)
        named = "" if is_chosen else f"; another is named with --home or {HOME_VARIABLE}"
        raise WrongUsage(f"there is no home directory {home.path}{named}; b2cal demo makes one with everything in it")
    if make:
        home.create()
    _tell_dagster(home)
    return home


def _tell_dagster(home: "Home") -> None:
    """Have Dagster keep its record where the home's deployment says, also when its servers are started by others."""
    from b2cal_assets.instance_settings import store_dagster_in
    from resources.deployment import read_deployment

    store_dagster_in(home.dagster_home, read_deployment(home).storage.database)


def named_home(ctx: typer.Context) -> "Home":
    """The same home, whether there is such a directory or not."""
    from resources.home import Home

    chosen = _session(ctx).home
    return Home(chosen) if chosen else Home.from_environment()


def _session(ctx: typer.Context) -> Session:
    return ctx.find_object(Session) or Session()


@contextmanager
def arguments() -> Iterator[None]:
    """What is wrong in this block is wrong with the command's arguments."""
    try:
        yield
    except ConfigurationError as error:
        raise WrongUsage(str(error)) from error
