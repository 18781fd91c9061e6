"""``b2cal catalogue``: the calibration scripts of a release."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.campaign import store_of
from b2cal_cli.output import AsJson, print_json, print_table, say, tell
from b2cal_cli.session import WrongUsage, arguments
from b2cal_core.errors import ConfigurationError

if TYPE_CHECKING:
    from b2cal_core.settings import Catalogue

app = typer.Typer(name="catalogue", help="Catalogues: the calibration scripts of a release.", no_args_is_help=True)
ScriptDirectory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory with caf_*.py and val_*.py.")]


@app.command()
def show(
    ctx: typer.Context,
    release: Annotated[str | None, typer.Argument(help="The release; by default the only one there is.")] = None,
    script: Annotated[
        str | None, typer.Option(help="Show all settings of this calibration, by its name or its script's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the calibrations of a release in the order of their dependencies, or all settings of one."""
    catalogue = _catalogue(ctx, release)
    if script is not None:
        with arguments():
            name = catalogue.find(script)
        settings = json.loads(catalogue[name].json_dumps())
        print_json(settings) if as_json else _show_settings(settings)
    elif as_json:
        print_json(catalogue.to_json())
    else:
        _show_table(catalogue)


@app.command()
def check(directory: ScriptDirectory, as_json: AsJson = False) -> None:
    """Import every script and its validation, and check that they fit together."""
    catalogue = _read(directory)
    if as_json:
        print_json({"valid": True, "order": list(catalogue.order())})
    else:
        _show_table(catalogue)
        say(f"{len(catalogue.order())} calibrations fit together")


@app.command(name="import")
def import_scripts(
    ctx: typer.Context,
    directory: ScriptDirectory,
    release: Annotated[str, typer.Option(help="Name under which campaigns ask for these scripts.")],
    basf2: Annotated[
        str | None,
        typer.Option(
            metavar="SETUP",
            help="The scripts are those of a basf2 release; this shell command sets it up, and the release is asked.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the scripts of a directory and keep their settings under the name of a release."""
    catalogue = _read(directory) if basf2 is None else _read_basf2(directory, basf2)
    with arguments():
        store_of(ctx, make=True).save_catalogue(release, catalogue, scripts=directory)
    if as_json:
        print_json({"release": release, "order": list(catalogue.order())})
    else:
        say(f"release {release} has {len(catalogue.order())} calibrations; a running Dagster follows")


def _read(directory: Path) -> "Catalogue":
    from b2cal_caf.scripts import read_catalogue, read_validation

    if not directory.is_dir():
        raise WrongUsage(f"{directory} is no directory; give the one with the scripts caf_*.py")
    catalogue = read_catalogue(directory)
    for name in catalogue.order():
        file = directory / f"val_{catalogue.script(name).removeprefix('caf_')}.py"
        if file.is_file() and read_validation(file).name != name:
            raise ConfigurationError(f"{file} validates {read_validation(file).name!r}, but should validate {name!r}")
    return catalogue


def _read_basf2(directory: Path, setup: str) -> "Catalogue":
    from resources.caf.basf2_catalogue import read_basf2_catalogue
    from resources.caf.basf2_environment import Basf2Environment

    catalogue = read_basf2_catalogue(Basf2Environment(setup), log=tell)
    missing = [
        script for script in map(catalogue.script, catalogue.order()) if not (directory / f"{script}.py").is_file()
    ]
    if missing:
        raise WrongUsage(
            f"{directory} lacks the scripts {', '.join(missing)} of the release; give the directory where it has them"
        )
    return catalogue


def _catalogue(ctx: typer.Context, release: str | None) -> "Catalogue":
    store = store_of(ctx)
    known = store.releases()
    if release is None and len(known) != 1:
        raise WrongUsage(
            f"name a release, there are {', '.join(known) or 'none; import one: b2cal catalogue import DIR'}"
        )
    with arguments():
        return store.catalogue(release or known[0])


def _show_table(catalogue: "Catalogue") -> None:
    rows = []
    for name in catalogue.order():
        settings = catalogue[name]
        needs, payloads = ", ".join(settings.depends_on), ", ".join(settings.produced_payloads)
        rows.append((name, catalogue.script(name), settings.stage, needs, payloads))
    print_table(("calibration", "script", "stage", "depends on", "payloads"), rows)


def _show_settings(settings: dict[str, object]) -> None:
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in settings.items()]
    print_table(("field", "value"), rows)
