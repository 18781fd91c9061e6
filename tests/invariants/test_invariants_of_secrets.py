"""Tokens and passwords are told to nobody: no log, error, journal or command line has them."""

import logging
import re
import traceback
from inspect import signature
from pathlib import Path
from typing import get_args

import pytest
import requests
import sqlalchemy as sa
from asked_changes import Job, jobs
from backends import RestWorld
from servers import faults
from servers.mariadb import MariaDBServer
from starlette.types import ASGIApp, Receive, Scope, Send
from worlds import attempt

from b2cal_cli.main import app as b2cal
from b2cal_core.errors import BackendError
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.rest.tokens import TokenFile


class Echo:
    """A server that tells in its errors what the client sent, and so its token."""

    async def __call__(self, _app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        sent = {name.decode(): value.decode() for name, value in scope["headers"]}
        told = f"no entry for {sent.get('x-authorization', 'nobody')}"
        body = b'{"code": 400, "reason": "bad request", "message": "%s"}' % told.encode()
        await faults.answering(400, body)(_app, scope, receive, send)


def all_of(error: BaseException) -> str:
    """The error as a log or a debugger shows it, with all that led to it and the variables on the way."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(shown.format()) + repr(error)


def assert_untold(secret: str, *texts: str) -> None:
    """No text has the secret, or the part of a token that proves it."""
    for text in texts:
        assert secret not in text
        assert secret.rpartition(".")[2] not in text


@jobs
def test_i25_the_token_is_in_no_log_error_audit_or_journal(
    rest: RestWorld, job: Job, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    case = rest.case()
    made = job.ready(case)
    rest.points(lambda db: job.work(db, case, made))
    requests = len(rest.faults.requests)
    errors: list[str] = []
    for fault in (Echo(), faults.html_refusal, faults.lose_reply, faults.unavailable):
        for number in range(requests):
            case = rest.case()
            made = job.ready(case)
            client = rest.client(attempts=1)
            rest.faults.at(number, fault)
            refusal = attempt(lambda client=client, case=case, made=made: job.work(client, case, made))
            rest.faults.reset()
            errors += [all_of(refusal)] if refusal else []
    assert errors
    told = capfd.readouterr()
    books = [repr(world.audit()) for world in (rest.conditions, rest.truth)]
    for file in rest.root.glob("token*"):
        token = file.read_text()
        assert_untold(token, caplog.text, told.out, told.err, *books, *errors)
        assert_untold(token, repr(client), repr(vars(client)), repr(TokenFile(file)), repr(TokenFile(file).token()))
    assert rest.server.secret not in "".join([caplog.text, told.out, told.err, *books, *errors])


def test_i25_a_token_in_a_question_to_the_server_is_not_logged_by_it(
    rest: RestWorld, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Belle II's own client asks ``/check?token=``."""
    caplog.set_level(logging.DEBUG, logger="uvicorn")
    token = rest.server.token("anna")
    reply = requests.get(f"{rest.server.url.removesuffix('/b2s/rest/')}/check", params={"token": token}, timeout=10)
    assert reply.status_code == 200
    told = capfd.readouterr()
    served = "".join(record.getMessage() for record in caplog.records if record.name.startswith("uvicorn"))
    assert_untold(token, served, told.out, told.err, reply.text)


@pytest.fixture(scope="module")
def password(mariadb: MariaDBServer) -> tuple[sa.URL, str]:
    """The address of an empty database with a user and a password in it; and the password."""
    url, secret = sa.make_url(mariadb.new_database()), "pass-8f1c0d5e-word"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE USER IF NOT EXISTS 'b2cal'@'%%' IDENTIFIED BY '{secret}'")
        connection.exec_driver_sql("GRANT ALL ON *.* TO 'b2cal'@'%%'")
    engine.dispose()
    return url.set(username="b2cal", password=secret), secret


def test_i25_the_password_of_a_database_is_in_no_log_error_or_audit(
    password: tuple[sa.URL, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url, secret = password
    conditions = EmbeddedConditionsDB(tmp_path / "conditions", url=url)
    conditions.create_tag("a")
    errors: list[str] = []
    wrong = [
        url.set(database="nobody_made_this"),
        url.set(username="nobody"),
        url.set(port=9),
        url.set(host="nobody.invalid"),
    ]
    for address in wrong:
        refusal = attempt(lambda address=address: EmbeddedConditionsDB(tmp_path / "other", url=address))
        assert isinstance(refusal, BackendError)
        errors.append(str(refusal) + repr(refusal) + "".join(traceback.format_exception(refusal)))
    shown = [repr(conditions), repr(vars(conditions)), repr(conditions.engine), conditions.database.address]
    for text in (caplog.text, *errors, *shown, repr(conditions.audit())):
        assert secret not in text
    conditions.engine.dispose()


def test_i25_no_option_of_the_command_line_takes_a_secret() -> None:
    """Where a command needs one it is given the file, or makes it; a command line is seen by everybody."""
    waiting, named = [b2cal], 0
    while waiting:
        group = waiting.pop()
        waiting += [one.typer_instance for one in group.registered_groups if one.typer_instance]
        callbacks = [one.callback for one in group.registered_commands if one.callback]
        for option in [option for callback in callbacks for option in signature(callback).parameters.values()]:
            kind, *said = get_args(option.annotation) or [option.annotation]
            if re.search("token|secret|passw", f"{option.name} {vars(said[0]) if said else ''}", re.IGNORECASE):
                named += 1
                assert kind in {Path, bool, Path | None}, option
    assert named > 0
