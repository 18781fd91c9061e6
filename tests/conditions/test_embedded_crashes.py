"""Processes that are killed in the middle of a change, and several processes that change one database at once."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.plans import PlanDocument
from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB

FIRST_HALF, SECOND_HALF, ALWAYS = IoV(0, 0, 0, -1), IoV(1, 0, -1, -1), IoV(0, 0, -1, -1)

Change = Callable[[EmbeddedConditionsDB, Path], object]


class KillAt:
    """Kills its own process at the given step, counted from 0."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, _step: str) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1


def in_child(work: Callable[[], object]) -> int:
    """Start ``work`` in a forked process and return its id; it ends with 0, or 3 when ``work`` hit a conflict."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except ConflictError:
        code = 3
    except BaseException:  # noqa: BLE001 (a forked test must not go on as a second test run)
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepared(root: Path) -> EmbeddedConditionsDB:
    """A RUNNING tag, a VALIDATED one to be published, and an OPEN one, each with something in it."""
    conditions = EmbeddedConditionsDB(root / "conditions")
    for text in ("old", "new", "newest"):
        (root / text).write_text(text)
    for tag, text in (("running", "old"), ("staging", "new"), ("open", "old")):
        conditions.create_tag(tag)
        conditions.replace_iovs(tag, ["p", "q"], [LocalPayload(name, root / text, ALWAYS) for name in ("p", "q")])
    conditions.set_state("running", expected=TagState.OPEN, new=TagState.RUNNING)
    conditions.set_state("staging", expected=TagState.OPEN, new=TagState.TESTING)
    conditions.set_state("staging", expected=TagState.TESTING, new=TagState.VALIDATED)
    plan, fingerprint = conditions.plan("running", "staging", ExpRun(1, 0), UpdateMode.strict)
    document = PlanDocument("running", "staging", ExpRun(1, 0), UpdateMode.strict, fingerprint, "", plan)
    (root / "plan.json").write_text(document.to_json())
    return conditions


def put(conditions: EmbeddedConditionsDB, root: Path) -> object:
    return conditions.put_payload("p", root / "newest")


def replace(conditions: EmbeddedConditionsDB, root: Path) -> object:
    halves = [(root / "new", FIRST_HALF), (root / "newest", SECOND_HALF)]
    return conditions.replace_iovs("open", ["p", "q"], [LocalPayload("p", file, iov) for file, iov in halves])


def publish(conditions: EmbeddedConditionsDB, root: Path) -> object:
    made = PlanDocument.from_json((root / "plan.json").read_text())
    return conditions.apply(made.plan, target="running", fingerprint=made.fingerprint, author="anna", reason="bucket 1")


def state(conditions: EmbeddedConditionsDB) -> tuple[object, ...]:
    """Everything a reader can see, with all linked content read."""
    tags = conditions.list_tags()
    links = [(tag.name, link) for tag in tags for link in conditions.list_iovs(tag.name)]
    for _, link in links:
        payload = conditions.payload(link.name, link.revision)
        assert payload is not None
        conditions.payload_file(payload)
    revisions = [conditions.payload("p", number) for number in range(1, 6)]
    return tags, [(tag, link.name, link.revision, link.iov) for tag, link in links], revisions


@pytest.mark.parametrize("change", [put, replace, publish])
def test_a_change_killed_at_any_step_is_whole_or_absent_and_can_be_repeated(tmp_path: Path, change: Change) -> None:
    steps: list[str] = []
    other = tmp_path / "undisturbed"
    other.mkdir()
    expected = prepared(other)
    before = state(expected)
    change(EmbeddedConditionsDB(other / "conditions", on_step=steps.append), other)
    for step, name in enumerate(steps):
        root = tmp_path / f"{step}"
        root.mkdir()
        prepared(root)
        killer = EmbeddedConditionsDB(root / "conditions", on_step=KillAt(step))
        assert ended(in_child(lambda killer=killer, root=root: change(killer, root))) == -signal.SIGKILL
        reopened = EmbeddedConditionsDB(root / "conditions")
        assert state(reopened) == (state(expected) if name == "committed" else before), name
        change(reopened, root)
        assert state(reopened) == state(expected)
        assert len(reopened.audit()) == len(expected.audit())
    assert len(steps) >= 4


def test_of_two_processes_that_apply_plans_from_one_state_one_wins(tmp_path: Path) -> None:
    conditions = prepared(tmp_path)
    plans = [
        conditions.plan("running", "staging", ExpRun(1, run), UpdateMode.strict) for run in (0, 1)
    ]  # from one fingerprint
    read_end, write_end = os.pipe()

    def apply(index: int) -> None:
        os.close(write_end)
        os.read(read_end, 1)  # both wait until the other end is closed
        plan, fingerprint = plans[index]
        conditions.apply(plan, target="running", fingerprint=fingerprint, author=f"author {index}", reason="race")

    children = [in_child(lambda index=index: apply(index)) for index in (0, 1)]
    os.close(write_end)
    assert sorted(ended(child) for child in children) == [0, 3]
    os.close(read_end)
    assert [entry.action for entry in conditions.audit("running")].count("apply") == 1
    assert len(conditions.list_iovs("running")) == 4


def test_many_processes_open_and_fill_a_new_database_together(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}").write_text(f"{number}")

    def fill(number: int) -> None:
        conditions = EmbeddedConditionsDB(tmp_path / "conditions")
        conditions.create_tag(f"tag{number}")
        for text in range(4):
            conditions.put_payload("p", tmp_path / f"{text}")
        conditions.replace_iovs(f"tag{number}", ["p"], [LocalPayload("p", tmp_path / f"{number}", ALWAYS)])

    children = [in_child(lambda number=number: fill(number)) for number in range(4)]
    assert [ended(child) for child in children] == [0] * 4
    conditions = EmbeddedConditionsDB(tmp_path / "conditions")
    payloads = [conditions.payload("p", revision) for revision in range(1, 6)]
    assert len({payload.sha256 for payload in payloads if payload}) == 4
    assert payloads[4] is None
    for number in range(4):
        found = conditions.resolve([f"tag{number}"], ExpRun(0, 0))["p"]
        assert conditions.payload_file(found.payload).read_text() == f"{number}"


def test_a_reader_sees_a_publish_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    reader = prepared(tmp_path)

    def look(_step: str) -> None:
        answers = reader.resolve(["running"], ExpRun(1, 0))
        seen.append({reader.payload_file(found.payload).read_text() for found in answers.values()})

    writer = EmbeddedConditionsDB(tmp_path / "conditions", on_step=look)
    publish(writer, tmp_path)
    assert seen[:-1] == [{"old"}] * (len(seen) - 1)
    assert len(seen) >= 3
    assert seen[-1] == {"new"}
