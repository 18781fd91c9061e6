"""The batch system that a command works with."""

from typing import TYPE_CHECKING

import typer

from b2cal_cli.session import arguments, named_home

if TYPE_CHECKING:
    from b2cal_core.ports import BatchBackend


def batch_of(ctx: typer.Context, kind: str, *, max_processes: int | None = None) -> "BatchBackend":
    """The batch system of a kind, as the home's deployment file, if there is one, describes it.

    Raises:
        WrongUsage: there is no such kind, or it cannot be used here.
        ConfigurationError: the deployment file is wrong.
    """
    from resources.batch.opened import open_batch
    from resources.deployment import read_deployment

    settings = read_deployment(named_home(ctx)).batch
    with arguments():
        return open_batch(kind, settings, max_processes=max_processes)
