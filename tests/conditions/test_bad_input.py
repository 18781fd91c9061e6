"""Whatever is wrong with a publish: the target is as it was, and the message says what to do."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from b2cal_core.errors import CalibrationError
from b2cal_core.payloads import LocalPayload, Release, TagState
from b2cal_core.plans import PlanDocument
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import TagIov, UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.rights import Rights
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher
from resources.conditions.safe_runs import NotedProcessed, note_processed
from resources.conditions.storage import upload

ALWAYS, FIRST = IoV(0, 0, -1, -1), ExpRun(5, 1)
RELEASE = Release("anna", "bert", "bucket 1")
RECORD = Provenance(
    code="caf_p.py", inputs=("a",), runs=((5, 1),), tags=(), upstream=(), config={}, validation={"verdict": "pass"}
)


@dataclass(frozen=True)
class Scene:
    """A RUNNING tag ``online`` and a VALIDATED tag ``staging`` that is fit to be published."""

    root: Path
    conditions: EmbeddedConditionsDB

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.conditions)

    @property
    def new_payload(self) -> tuple[str, str]:
        payload = self.conditions.payload("p", 2)
        assert payload is not None
        return payload.name, payload.md5

    def plan(self, staging: str = "staging", first_run: ExpRun = FIRST) -> PlanDocument:
        return self.publisher.plan_update("online", staging, first_run=first_run, mode=UpdateMode.strict)

    def payload_path(self) -> Path:
        payload = self.conditions.payload("p", 2)
        assert payload is not None
        return self.conditions.payload_file(payload)

    def validate(self, tag: str) -> None:
        for before, after in ((TagState.OPEN, TagState.TESTING), (TagState.TESTING, TagState.VALIDATED)):
            self.conditions.set_state(tag, expected=before, new=after)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    conditions = EmbeddedConditionsDB(tmp_path / "conditions")
    for tag, text in (("online", "old"), ("staging", "new")):
        (tmp_path / text).write_text(text)
        conditions.create_tag(tag)
        conditions.replace_iovs(tag, ["p"], [LocalPayload("p", tmp_path / text, ALWAYS)])
    conditions.set_state("online", expected=TagState.OPEN, new=TagState.RUNNING)
    made = Scene(tmp_path, conditions)
    made.validate("staging")
    conditions.record_provenance({made.new_payload: RECORD}, author="anna")
    return made


def overlapping_staging(scene: Scene) -> None:
    scene.conditions.create_tag("foreign")
    both = [TagIov("p", 1, ALWAYS), TagIov("p", 2, IoV(6, 0, -1, -1))]
    scene.conditions.add_iovs("foreign", both, allow_overlaps=True)  # as taken over from elsewhere
    scene.validate("foreign")
    scene.plan("foreign")


def wrong_state_of_staging(scene: Scene) -> None:
    scene.conditions.set_state("staging", expected=TagState.VALIDATED, new=TagState.OPEN)
    scene.plan()


def wrong_state_of_target(scene: Scene) -> None:
    scene.conditions.create_tag("fresh")
    scene.publisher.plan_update("fresh", "staging", first_run=FIRST, mode=UpdateMode.strict)


def foreign_tag(scene: Scene) -> None:
    Publisher(scene.conditions.seen_by(Rights.own("carl"))).apply(scene.plan(), RELEASE)


def incomplete_provenance(scene: Scene) -> None:
    bare = RECORD.model_copy(update={"validation": None})
    scene.conditions.record_provenance({scene.new_payload: bare}, author="anna")
    scene.publisher.apply(scene.plan(), RELEASE)


def damaged_payload(scene: Scene) -> None:
    plan, file = scene.plan(), scene.payload_path()
    file.chmod(0o644)
    file.write_text("rubbish")
    scene.publisher.apply(plan, RELEASE)


def lost_payload(scene: Scene) -> None:
    plan = scene.plan()
    scene.payload_path().unlink()
    scene.publisher.apply(plan, RELEASE)


def unknown_name(scene: Scene) -> None:
    scene.plan("stagin")


def a_run_too_early(scene: Scene) -> None:
    scene.plan(first_run=ExpRun(0, 0))


def processed_meanwhile(scene: Scene) -> None:
    publisher = Publisher(scene.conditions, [NotedProcessed(scene.conditions)])
    plan = publisher.plan_update("online", "staging", first_run=FIRST, mode=UpdateMode.strict)
    note_processed(scene.conditions, "online", ExpRun(9, 9), release=RELEASE)
    publisher.apply(plan, RELEASE)


def edited_plan(scene: Scene) -> None:
    PlanDocument.from_json(scene.plan().to_json().replace('"online"', '"staging"'))


def forged_prediction(scene: Scene) -> None:
    scene.publisher.apply(replace(scene.plan(), predicted="0" * 64 + "-RUNNING"), RELEASE)


def iov_nonsense_in_a_storage(scene: Scene) -> None:
    (scene.root / "storage").mkdir()
    (scene.root / "storage" / "database.txt").write_text("dbstore/p abc123 5,0,1,0\n")
    scene.conditions.create_tag("fresh")
    upload(scene.conditions, "fresh", [scene.root / "storage"])


def nobody_approved(scene: Scene) -> None:
    scene.publisher.apply(scene.plan(), Release("anna", "", "bucket 1"))


def four_eyes_without_approval(scene: Scene) -> None:
    Publisher(scene.conditions, four_eyes=True).apply(scene.plan(), RELEASE)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (overlapping_staging, "keep one payload per run"),
        (wrong_state_of_staging, "bring it to that state"),
        (wrong_state_of_target, "bring it to that state"),
        (foreign_tag, "ask its administrator"),
        (incomplete_provenance, "b2cal cdb provenance"),
        (damaged_payload, "upload the payload again"),
        (lost_payload, "put back a copy"),
        (unknown_name, "'stagin'"),
        (a_run_too_early, "exp 0 run 1"),
        (processed_meanwhile, "exp 9 run 10"),
        (edited_plan, "make it anew"),
        (forged_prediction, "Make a new plan"),
        (iov_nonsense_in_a_storage, "line 1"),
        (nobody_approved, "approver"),
        (four_eyes_without_approval, "b2cal cdb approve"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_bad_input_changes_nothing_and_says_what_to_do(
    scene: Scene, mistake: Callable[[Scene], None], says: str
) -> None:
    before = scene.conditions.fingerprint("online"), scene.conditions.list_iovs("online")
    with pytest.raises(CalibrationError) as refused:
        mistake(scene)
    assert says in str(refused.value)
    assert (scene.conditions.fingerprint("online"), scene.conditions.list_iovs("online")) == before


def test_without_a_mistake_it_is_published(scene: Scene) -> None:
    scene.publisher.apply(scene.plan(), RELEASE)
    assert scene.conditions.resolve(["online"], FIRST)["p"].payload.revision == 2
