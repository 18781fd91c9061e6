"""Processes that are killed in the middle of a change, and several processes that change one database at once."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from contracts.conditions_contract import RELEASE, bring, document_of, update_of, vouch
from kept_database import KeptDatabase
from killed_processes import CONFLICT, DONE, KillAt, ended, in_child, tell_requests

from b2cal_core.errors import CalibrationError
from b2cal_core.payloads import LocalPayload, TagState, broken_link
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.publishing import Operation, UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import schema
from resources.conditions.embedded import EmbeddedConditionsDB

FIRST_HALF, SECOND_HALF, ALWAYS = IoV(0, 0, 0, -1), IoV(1, 0, -1, -1), IoV(0, 0, -1, -1)

Change = Callable[[EmbeddedConditionsDB, Path], object]


@pytest.fixture
def prepared(database: KeptDatabase) -> KeptDatabase:
    """A RUNNING tag, a VALIDATED one to be published, and an OPEN one, each with something in it."""
    conditions, root = database.open(), database.root
    for text in ("old", "new", "newest"):
        (root / text).write_text(text)
    for tag, text in (("running", "old"), ("staging", "new"), ("open", "old")):
        conditions.create_tag(tag)
        conditions.replace_iovs(tag, ["p", "q"], [LocalPayload(name, root / text, ALWAYS) for name in ("p", "q")])
    vouch(conditions, "staging")
    bring(conditions, "running", TagState.RUNNING)
    bring(conditions, "staging", TagState.VALIDATED)
    update = update_of(conditions, "running", "staging", ExpRun(1, 0), UpdateMode.strict)
    dropped, created = Operation("drop", "p", 1, ALWAYS), Operation("create", "p", 2, SECOND_HALF)
    changed = document_of(conditions, "open", [dropped, created], kind=PlanKind.edit)
    (root / "publish.json").write_text(update.to_json())
    (root / "edit.json").write_text(changed.to_json())
    database.keep()
    return database


def put(conditions: EmbeddedConditionsDB, root: Path) -> object:
    return conditions.put_payload("p", root / "newest")


def replace(conditions: EmbeddedConditionsDB, root: Path) -> object:
    halves = [(root / "new", FIRST_HALF), (root / "newest", SECOND_HALF)]
    return conditions.replace_iovs("open", ["p", "q"], [LocalPayload("p", file, iov) for file, iov in halves])


def publish(conditions: EmbeddedConditionsDB, root: Path) -> object:
    return conditions.apply(PlanDocument.from_json((root / "publish.json").read_text()), RELEASE)


def edit(conditions: EmbeddedConditionsDB, root: Path) -> object:
    return conditions.apply(PlanDocument.from_json((root / "edit.json").read_text()), RELEASE)


def state(conditions: EmbeddedConditionsDB) -> tuple[object, ...]:
    """Everything a reader can see, with all linked content read."""
    tags = conditions.list_tags()
    links = [(tag.name, link) for tag in tags for link in conditions.list_iovs(tag.name)]
    for _, link in links:
        payload = conditions.payload(link.name, link.revision)
        assert payload is not None
        conditions.payload_file(payload)
    revisions = [conditions.payload("p", number) for number in range(1, 6)]
    fingerprints = [conditions.fingerprint(tag.name) for tag in tags]
    return tags, [(tag, link.name, link.revision, link.iov) for tag, link in links], revisions, fingerprints


@pytest.mark.parametrize("change", [put, replace, publish, edit])
def test_a_change_killed_at_any_request_is_whole_or_absent_and_can_be_repeated(
    prepared: KeptDatabase, change: Change
) -> None:
    before, points = state(prepared.open()), list[str]()
    change(tell_requests(prepared.open(on_step=points.append), points.append), prepared.root)
    expected, log = state(prepared.open()), prepared.open().audit()
    last_commit = max(point for point, name in enumerate(points) if name == "COMMIT")

    def killed(point: int) -> None:
        kill = KillAt(point)
        change(tell_requests(prepared.open(on_step=kill), kill), prepared.root)

    for point, name in enumerate(points):
        prepared.restore()
        assert ended(in_child(lambda point=point: killed(point))) == -signal.SIGKILL
        reopened = prepared.open()
        assert state(reopened) == (expected if point > last_commit else before), name
        change(reopened, prepared.root)
        assert state(reopened) == expected
        assert [(line.action, line.tag) for line in reopened.audit()] == [(line.action, line.tag) for line in log]
        assert broken_link(reopened.audit()) is None
    assert len(points) >= 10


def test_of_two_processes_that_apply_plans_from_one_state_one_wins(prepared: KeptDatabase) -> None:
    conditions = prepared.open()
    plans = [
        update_of(conditions, "running", "staging", ExpRun(1, run), UpdateMode.strict) for run in (0, 1)
    ]  # from one fingerprint
    read_end, write_end = os.pipe()

    def apply(index: int) -> None:
        os.close(write_end)
        os.read(read_end, 1)  # both wait until the other end is closed
        conditions.apply(plans[index], RELEASE)

    children = [in_child(lambda index=index: apply(index)) for index in (0, 1)]
    os.close(write_end)
    assert sorted(ended(child) for child in children) == [DONE, CONFLICT]
    os.close(read_end)
    assert [entry.action for entry in conditions.audit("running")].count("apply") == 1
    assert len(conditions.list_iovs("running")) == 4


def test_tables_whose_making_was_killed_at_any_statement_are_made_by_the_next_process(
    new_database: Callable[[Path], KeptDatabase], tmp_path: Path
) -> None:
    point, outcome = 0, -signal.SIGKILL
    while outcome != DONE:
        database = new_database(tmp_path / f"{point}")

        kill = KillAt(point)

        def make(database: KeptDatabase = database, kill: KillAt = kill) -> None:
            sa.event.listen(sa.Engine, "before_cursor_execute", lambda *_: kill("statement"))
            database.open()

        outcome = ended(in_child(make))
        assert outcome in {DONE, -signal.SIGKILL}
        database.open().create_tag("a")
        with pytest.raises(CalibrationError, match="append-only"), database.open().database.write() as connection:
            connection.execute(sa.delete(schema.audit))
        point += 1 if database.url is None else 3  # a server takes its time over a table
    assert point > len(schema.metadata.tables)


def test_many_processes_open_and_fill_a_new_database_together(database: KeptDatabase) -> None:
    root = database.root
    for number in range(4):
        (root / f"{number}").write_text(f"{number}")

    def fill(number: int) -> None:
        conditions = database.open()
        conditions.create_tag(f"tag{number}")
        for text in range(4):
            conditions.put_payload("p", root / f"{text}")
        conditions.replace_iovs(f"tag{number}", ["p"], [LocalPayload("p", root / f"{number}", ALWAYS)])

    children = [in_child(lambda number=number: fill(number)) for number in range(4)]
    assert [ended(child) for child in children] == [DONE] * 4
    conditions = database.open()
    payloads = [conditions.payload("p", revision) for revision in range(1, 6)]
    assert len({payload.sha256 for payload in payloads if payload}) == 4
    assert payloads[4] is None
    for number in range(4):
        found = conditions.resolve([f"tag{number}"], ExpRun(0, 0))["p"]
        assert conditions.payload_file(found.payload).read_text() == f"{number}"


def test_a_reader_sees_a_publish_as_a_whole_or_not_at_all(prepared: KeptDatabase) -> None:
    seen: list[set[str]] = []

    reader = prepared.open()

    def look(_step: str) -> None:
        answers = reader.resolve(["running"], ExpRun(1, 0))
        seen.append({reader.payload_file(found.payload).read_text() for found in answers.values()})

    publish(prepared.open(on_step=look), prepared.root)
    assert seen[:-1] == [{"old"}] * (len(seen) - 1)
    assert len(seen) >= 3
    assert seen[-1] == {"new"}
