"""Failures before a change leave everything as it was and say what failed; secrets are told to nobody."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asked_changes import Job, jobs
from backends import EmbeddedWorld, RestWorld, changes
from grid import ALWAYS, answers_of
from servers import faults
from servers.faults import Fault
from worlds import Case, World, attempt

from b2cal_core.errors import BackendError, CalibrationError, RightsError
from b2cal_core.payloads import TagState
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.publisher import Publisher
from resources.conditions.rest.adapter import RestConditionsDB
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.tokens import TokenFile
from resources.conditions.server.tokens import issue

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
