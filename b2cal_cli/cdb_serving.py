"""Commands of ``b2cal cdb`` that let others in: the server for basf2 and Belle II's own client, and tokens for it."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.output import AsJson, print_json, say, tell
from b2cal_cli.session import WrongUsage, arguments, home_of

if TYPE_CHECKING:
    import socket

    from resources.home import Home

_PORT = 8180
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_HOUR = 3600.0


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = _PORT,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address clients know it by, when a proxy stands before it.")
    ] = None,
) -> None:
    """Serve the conditions database to basf2 and Belle II's command-line client, until Ctrl-C."""
    from resources.conditions.deployed import open_embedded, tables_of
    from resources.conditions.server.serving import serve as serve_until_stopped

    home = home_of(ctx)
    with arguments():
        open_embedded(home)
        secret = _secret_of(home)
    with _listening(host, port) as listening:
        port = listening.getsockname()[1]
        address = (base_url or f"http://{f'[{host}]' if ':' in host else host}:{port}").rstrip("/") + "/b2s/rest/"
        say(f"serving {home.conditions_dir} at {address}; Ctrl-C ends it")
        tell(f"basf2 finds it with BELLE2_CONDB_SERVERLIST={address}; b2cal cdb token lets a user change tags")
        if host not in _LOCAL:
            tell("others can reach it, and tokens travel as they are: put a proxy with TLS before it")
        with suppress(KeyboardInterrupt):  # Ctrl-C ends it with this, or without, depending on where it was
            serve_until_stopped(
                home.conditions_dir, secret=secret, url=tables_of(home), base_url=base_url, listening=listening
            )
        tell("the server has ended; what was asked of it is done")


def token(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="Who the audit log will name.")],
    admin: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", help="Tags the user may also make, fill, publish and change; whole names."),
    ] = None,
    create_iov: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="OPEN tags the user may also fill; whole names.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="How long it is valid.")] = 1.0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File for the token, only yours to read.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the token too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Issue a token for the server; by default for tags that begin with user_USER_ and temp_USER_."""
    from b2cal_core.rights import Rights
    from resources.conditions.server.tokens import issue, keep_token

    if not user.strip() or "/" in user or user.startswith("."):
        raise WrongUsage(f"a user's name gives the token's file its name, and {user!r} cannot")
    home = home_of(ctx)
    patterns = [*Rights.own(user).admin, *(admin or ())]
    file = output or home.path / "tokens" / user
    with arguments():
        text = issue(_secret_of(home), user, admin=patterns, create_iov=create_iov or (), seconds=hours * _HOUR)
    keep_token(file, text)
    if as_json:
        answer = {"user": user, "file": str(file), "admin": patterns, "create_iov": create_iov or [], "hours": hours}
        print_json(answer | ({"token": text} if show else {}))
        return
    say(f"a token for {user}, valid for {hours:g} h, is in {file}; clients read it with BELLE2_CDB_AUTH_TOKEN={file}")
    if show:
        say(text)


def _secret_of(home: "Home") -> str:
    """What signs the tokens of a home's server; made when it is first needed."""
    from resources.conditions.server.tokens import secret_of

    return secret_of(home.conditions_dir / "token-secret")


def _listening(host: str, port: int) -> "socket.socket":
    import socket

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise WrongUsage(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --port") from error
