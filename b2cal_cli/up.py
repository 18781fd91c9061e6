"""``b2cal up``: the Dagster UI and daemon of a home, as one command."""

from typing import Annotated

import typer

from b2cal_cli.session import home_of


def up(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web page.")] = 3000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than your own let everybody in.")
    ] = "127.0.0.1",
) -> None:
    """Start the Dagster UI and the daemon on a home directory (--home); Ctrl-C stops both."""
    from b2cal_cli.service import serve

    serve(home_of(ctx, make=True), host=host, port=port)
