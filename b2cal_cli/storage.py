"""``b2cal storage``: where the tables of an installation are, and bringing them up to date."""

from typing import TYPE_CHECKING

import typer

from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, home_of

if TYPE_CHECKING:
    from resources.home import Home

app = typer.Typer(
    name="storage",
    help="Storage: where runs, decisions, conditions and Dagster's record are kept.",
    no_args_is_help=True,
)


@app.command()
def upgrade(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Bring all tables up to date; stop everything else and make a copy of them before."""
    from b2cal_assets.instance_settings import upgrade_storage
    from resources.conditions.deployed import tables_of
    from resources.conditions.upgrades import upgrade_if_made
    from resources.deployment import registry_address
    from resources.storage.upgrades import upgrade as upgrade_registry

    home = home_of(ctx)
    steps = {
        "registry": upgrade_registry(registry_address(home)),
        "conditions": upgrade_if_made(tables_of(home)),
        "dagster": upgrade_storage(home.dagster_home),
    }
    if as_json:
        print_json({part: {"before": step[0], "after": step[1]} if step else None for part, step in steps.items()})
        return
    rows = [(part, *(step or ("no tables yet", ""))) for part, step in steps.items()]
    print_table(("tables of", "were of version", "and are of version"), rows)


@app.command()
def copy(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Copy the home's own tables to the database that its deployment names now; stop everything else before.

    All rows of runs, buckets, decisions and conditions go, or none do. Dagster's record begins anew: buckets
    are looked at once more, and what is finished is found.
    """
    from resources.deployment import registry_address

    home = home_of(ctx)
    if registry_address(home) == home.registry_url:
        raise WrongUsage("deployment.yaml names no storage.database, so there is nowhere to copy to")
    rows = _copied(home)
    if as_json:
        print_json(rows)
        return
    print_table(("table", "rows"), rows.items(), empty="the home has no tables of its own")
    say("the files they were in are kept; move them away when all is well")


def _copied(home: "Home") -> dict[str, int]:
    """The number of rows copied, by table."""
    from resources.conditions.deployed import tables_in, tables_of
    from resources.deployment import registry_address
    from resources.storage.copying import copied_registry, copy_conditions

    with copied_registry(home.registry_url, registry_address(home)) as rows:
        return {**rows, **copy_conditions(tables_in(home), tables_of(home))}


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show where the tables are, without passwords, and of which version; make none."""
    from b2cal_assets.instance_settings import keeps_own_record
    from resources.conditions.connections import Database
    from resources.conditions.deployed import tables_of
    from resources.deployment import registry_address
    from resources.storage.upgrades import dagster_revision, looked_at

    home = home_of(ctx)
    registry = looked_at(registry_address(home))
    conditions = Database(tables_of(home), create=False, any_revision=True)
    own = keeps_own_record(home.dagster_home)
    record = f"sqlite:///{home.dagster_home / 'history' / 'runs.db'}" if own else registry_address(home)
    rows = [
        ("registry", registry.address, registry.revision()),
        ("conditions", conditions.address, conditions.stored_revision()),
        ("dagster", str(home.dagster_home) if own else registry.address, dagster_revision(record)),
    ]
    if as_json:
        print_json([{"part": part, "address": address, "version": version} for part, address, version in rows])
        return
    print_table(("tables of", "are in", "version"), [(part, place, version or "") for part, place, version in rows])
