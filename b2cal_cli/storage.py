"""``b2cal storage``: where the tables of an installation are, and bringing them up to date."""

import typer

from b2cal_cli.output import AsJson, print_json, print_table
from b2cal_cli.session import home_of

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
