"""Failures before a change leave everything as it was and say what failed; secrets are told to nobody."""

import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import pytest
import requests
import sqlalchemy as sa
from grid import ALWAYS, Line, answers_of
from servers import faults
from servers.faults import Fault
from servers.mariadb import MariaDBServer
from starlette.types import ASGIApp, Receive, Scope, Send
from worlds import RELEASE, Case, EmbeddedWorld, RestWorld, World, attempt, changes

from b2cal_cli.main import app as b2cal
from b2cal_core.errors import BackendError, CalibrationError, RightsError
from b2cal_core.payloads import TagState
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher
from resources.conditions.rest.adapter import RestConditionsDB
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.tokens import TokenFile
from resources.conditions.server.tokens import issue

BEFORE: list[Line] = [("p", "1", IoV(0, 0, 0, 5))]
STEPS = re.compile(r"look(ing|ed) (up|for)|listing|uploading|linking|removing|updating|bringing|creating|cloning")
# What a broken way to the server, a broken server or a wrong address answers.
FAULTS: dict[str, Fault] = {
    "no reply": faults.lose_request,
    "503": faults.unavailable,
    "empty": faults.empty,
    "cut JSON": faults.malformed,
    "HTML error": faults.html_error,
    "HTML page": faults.html_page,
    "HTML refusal": faults.html_refusal,
    "HTML not found": faults.html_absent,
    "redirect": faults.redirect,
    "other JSON": faults.wrong_type,
}


@dataclass(frozen=True)
class Job:
    """A change: what it needs, and the change."""

    name: str
    ready: Callable[[Case], Any]
    work: Callable[[ConditionsDB, Case, Any], object]


def _ready_update(case: Case) -> Any:
    target = case.make([("p", "1", ALWAYS)], TagState.RUNNING)
    staging = case.make([("p", "2", ALWAYS)], TagState.VALIDATED, vouched=True)
    return case.update(target, staging, ExpRun(1, 0), UpdateMode.strict)


JOBS = [
    Job(
        "replace",
        lambda case: case.make(BEFORE),
        lambda db, case, tag: db.replace_iovs(tag, [case.name("p")], case.local([("p", f"new {case.number}", ALWAYS)])),
    ),
    Job("running update", _ready_update, lambda db, case, plan: db.apply(plan, RELEASE)),
    Job(
        "state",
        lambda case: case.make(BEFORE),
        lambda db, case, tag: db.set_state(tag, expected=TagState.OPEN, new=TagState.TESTING),
    ),
]
jobs = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)


def state_of(world: World, case: Case, made: Any) -> Any:
    """All that a change could have changed."""
    tag = made if isinstance(made, str) else made.target
    return world.truth.fingerprint(tag), world.truth.list_iovs(tag), case.revisions(), len(world.truth.audit(tag))


# I20


@jobs
def test_i20_a_fault_in_any_request_before_the_change_changes_nothing_and_names_the_step(
    rest: RestWorld, job: Job
) -> None:
    """Also in the place of the change itself; from there on nothing else reaches the server."""
    case = rest.case()
    made = job.ready(case)
    rest.points(lambda db: job.work(db, case, made))
    change = next(i for i, request in enumerate(rest.faults.requests) if changes(request))
    case = rest.case()
    made = job.ready(case)
    before = state_of(rest, case, made)
    for number in range(change + 1):
        for kind, fault in FAULTS.items():
            client = rest.client(attempts=1)
            rest.faults.at(number, fault, times=1 << 30)
            refusal = attempt(lambda client=client: job.work(client, case, made))
            told = str(refusal)
            assert refusal is not None, (number, kind)
            assert STEPS.search(told), (number, kind, told)
            assert not any(request.served and changes(request) for request in rest.faults.requests)
            rest.faults.reset()
            assert state_of(rest, case, made) == before, (number, kind)
    job.work(rest.client(), case, made)
    assert state_of(rest, case, made) != before


@jobs
def test_i20_a_token_that_is_no_good_is_refused_before_anything_is_sent(
    rest: RestWorld, tmp_path: Path, job: Job
) -> None:
    case = rest.case()
    made = job.ready(case)
    before = state_of(rest, case, made)
    good = rest.server.token("anna")
    files = {
        "expired": rest.server.token("anna", seconds=-60),
        "about to expire": rest.server.token("anna", seconds=2),
        "garbage": "no.token.this",
        "blank": "",
    }
    for kind, text in files.items():
        refused_with(rest, job, case, made, token_file(tmp_path, kind, text))
    refused_with(rest, job, case, made, TokenFile(tmp_path / "absent"))
    refused_with(rest, job, case, made, None)
    open_to_all = token_file(tmp_path, "open", good)
    (tmp_path / "open").chmod(0o644)
    refused_with(rest, job, case, made, open_to_all)
    assert state_of(rest, case, made) == before


@jobs
def test_i20_a_token_that_only_the_server_finds_wrong_changes_nothing(
    rest: RestWorld, tmp_path: Path, job: Job
) -> None:
    case = rest.case()
    made = job.ready(case)
    before = state_of(rest, case, made)
    forged = issue("another secret that the server does not know, long enough", "anna", admin=[".*"], seconds=3600)
    client = client_with(rest, token_file(rest.root, f"forged{case.number}", forged))
    with pytest.raises(RightsError):
        job.work(client, case, made)
    assert state_of(rest, case, made) == before


def token_file(directory: Path, name: str, text: str) -> TokenFile:
    """A token in a file that only its owner can read."""
    path = directory / name
    path.touch(0o600)
    path.write_text(text)
    return TokenFile(path)


def client_with(rest: RestWorld, token: TokenFile | None) -> RestConditionsDB:
    """A client with this token."""
    client = rest.client(attempts=1)
    client._calls.transport._token = token
    client._connection = type(client._connection)(
        client._calls,
        client._connection.journal,
        Patience(attempts=1, sleep=lambda _seconds: None),
        token=token,
        user="anna",
        locks=rest.root / "cache" / "locks",
    )
    return client


def refused_with(rest: RestWorld, job: Job, case: Case, made: Any, token: TokenFile | None) -> None:
    client = client_with(rest, token)
    rest.faults.reset()
    with pytest.raises(RightsError, match="token"):
        job.work(client, case, made)
    assert not any(changes(request) for request in rest.faults.requests)


@jobs
def test_i20_a_database_that_breaks_at_any_statement_has_changed_nothing(embedded: EmbeddedWorld, job: Job) -> None:
    """SQLite is interrupted, the connection to MariaDB is killed; for real, so that the errors are theirs."""
    case = embedded.case()
    made = job.ready(case)
    count = len(embedded.points(lambda db: job.work(db, case, made)))
    case = embedded.case()
    made = job.ready(case)
    before, failed = state_of(embedded, case, made), 0
    for point in range(count + 1):
        refusal = attempt(lambda point=point: job.work(embedded.failing(point), case, made))
        embedded.revive()
        if refusal is None:
            break  # nothing but the end of the transaction was left to be done
        failed += 1
        assert isinstance(refusal, BackendError)
        assert "nothing was changed" in str(refusal)
        assert state_of(embedded, case, made) == before
    assert failed > 5
    assert refusal is None
    assert state_of(embedded, case, made) != before


# I25


class Echo:
    """A server that tells in its errors what the client sent, and so its token."""

    async def __call__(self, _app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        headers = "; ".join(f"{name.decode()}: {value.decode()}" for name, value in scope["headers"])
        body = b'{"code": 400, "reason": "bad request", "message": "%s"}' % headers.encode().replace(b'"', b"'")
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


# Bad input in general


def test_i20_what_cannot_be_is_refused_and_leaves_the_contents_hash(world: World, tmp_path: Path) -> None:
    """Wrong state, foreign tag, unknown name, nonsense IoV, file that is not there: one clear error each."""
    case = world.case()
    target, staging = case.make([("p", "1", ALWAYS)], TagState.RUNNING), case.make([("p", "2", ALWAYS)])
    before = world.conditions.fingerprint(target), world.conditions.fingerprint(staging), case.revisions()
    publisher, first = Publisher(world.conditions), ExpRun(1, 0)
    missing = case.local([("p", "3", ALWAYS)])[0]
    asked: dict[str, Callable[[], object]] = {
        "wrong state": lambda: publisher.plan_update(target, staging, first_run=first),
        "unknown staging": lambda: publisher.plan_update(target, "nobody", first_run=first),
        "unknown target": lambda: publisher.plan_update("nobody", staging, first_run=first),
        "not running": lambda: publisher.plan_update(staging, target, first_run=first),
        "unknown name": lambda: publisher.plan_close(staging, first, names=["nothing"]),
        "no file": lambda: world.conditions.put_payload("p", tmp_path / "absent"),
        "odd payload": lambda: world.conditions.put_payload("../p", missing.file),
        "odd tag": lambda: world.conditions.create_tag("a b"),
        "stranger": lambda: world.conditions.replace_iovs(staging, ["other"], [missing]),
    }
    for kind, work in asked.items():
        refusal = attempt(work)
        assert isinstance(refusal, CalibrationError), kind
        assert re.search(r"[;:,.] ", str(refusal)), kind
    with pytest.raises(ValueError, match="must not start after its end"):
        IoV(1, 1, 1, 0)
    after = world.conditions.fingerprint(target), world.conditions.fingerprint(staging), case.revisions()
    assert after == before
    assert case.answers(target) == answers_of([("p", "1", ALWAYS)])
