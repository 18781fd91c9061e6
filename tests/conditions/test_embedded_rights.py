"""Every way to change an embedded database is refused to who has no right, and leaves neither row nor file behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
from contracts.conditions_contract import RELEASE, bring, document_of, update_of, vouch
from kept_database import KeptDatabase

from b2cal_core.errors import RightsError
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.plans import PlanKind
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import Operation, TagIov, UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.rights import Rights

ALWAYS, EARLIER, LATER = IoV(0, 0, -1, -1), IoV(0, 0, 4, -1), IoV(5, 0, 5, -1)


class Prepared:
    """Tags of the user ``x``: one OPEN, one VALIDATED, one RUNNING, and plans for two of them."""

    def __init__(self, database: KeptDatabase) -> None:
        self.database, self.conditions = database, database.open()
        self.new = self._written("new")
        for tag, text, iov in (("open", "old", EARLIER), ("staging", "newer", ALWAYS), ("running", "old", ALWAYS)):
            name = f"user_x_{tag}"
            self.conditions.create_tag(name)
            self.conditions.replace_iovs(name, ["p"], [LocalPayload("p", self._written(text), iov)])
        vouch(self.conditions, "user_x_staging")
        bring(self.conditions, "user_x_staging", TagState.VALIDATED)
        bring(self.conditions, "user_x_running", TagState.RUNNING)
        self.update = update_of(self.conditions, "user_x_running", "user_x_staging", ExpRun(1, 0), UpdateMode.strict)
        dropped = [Operation("drop", "p", 1, EARLIER)]
        self.edit = document_of(self.conditions, "user_x_open", dropped, kind=PlanKind.edit)

    def _written(self, text: str) -> Path:
        file = self.database.root / f"{text}.root"
        file.write_text(text)
        return file

    def state(self) -> tuple[object, ...]:
        """All rows and all files."""
        return self.database.rows(), self.database.payload_files()


Change = Callable[[ConditionsDB, Prepared], object]
ADMINISTERING: dict[str, Change] = {
    "make": lambda user, _: user.create_tag("user_x_more"),
    "clone": lambda user, _: user.clone_tag("user_x_open", "user_x_more"),
    "state": lambda user, _: user.set_state("user_x_open", expected=TagState.OPEN, new=TagState.TESTING),
    "publish": lambda user, ready: user.apply(ready.update, RELEASE),
}
FILLING: dict[str, Change] = {
    "replace": lambda user, ready: user.replace_iovs("user_x_open", ["p"], [LocalPayload("p", ready.new, LATER)]),
    "empty": lambda user, _: user.replace_iovs("user_x_open", ["p"], []),
    "add": lambda user, _: user.add_iovs("user_x_open", [TagIov("p", 2, LATER)]),
    "lease": lambda user, _: user.lease("user_x_open", holder="anybody", seconds=60),
}
EDITING: dict[str, Change] = {"edit": lambda user, ready: user.apply(ready.edit, RELEASE)}
EVERYTHING = ADMINISTERING | FILLING | EDITING
STRANGERS = {
    "nobody": Rights("nobody"),
    "own tags only": Rights.own("xy"),
    "a dot for any sign": Rights.own("."),
    "anything for a sign": Rights.own(".*"),
    "the beginning of the name": Rights("y", admin=("user_x_", "user_x_o", "open|user")),
    "the end of the name": Rights("y", admin=("_x_.*", ".*_ope")),
    "another letter case": Rights("y", admin=("USER_X_.*",)),
}


@pytest.fixture
def ready(database: KeptDatabase) -> Prepared:
    return Prepared(database)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_who_has_no_right_changes_nothing_and_uploads_nothing(ready: Prepared, stranger: str) -> None:
    user, before = ready.conditions.seen_by(STRANGERS[stranger]), ready.state()
    for what, change in EVERYTHING.items():
        with pytest.raises(RightsError, match="user_x_"):
            change(user, ready)
        assert ready.state() == before, what


def test_who_may_fill_may_do_just_that(ready: Prepared) -> None:
    filler = ready.conditions.seen_by(Rights("filler", create_iov=("user_x_.*",)))
    before = ready.state()
    for what, change in ADMINISTERING.items():
        with pytest.raises(RightsError, match="filler"):
            change(filler, ready)
        assert ready.state() == before, what
    for what, change in FILLING.items():
        fingerprint = ready.conditions.fingerprint("user_x_open")
        change(filler, ready)
        assert (ready.conditions.fingerprint("user_x_open") != fingerprint) is (what != "lease"), what


@pytest.mark.parametrize("change", EVERYTHING)
def test_who_owns_the_tag_may_do_all(ready: Prepared, change: str) -> None:
    EVERYTHING[change](ready.conditions.seen_by(Rights.own("x")), ready)
    assert change == "lease" or ready.conditions.audit()[-1].author in {"x", RELEASE.author}


def test_what_is_read_needs_no_right(ready: Prepared) -> None:
    nobody = ready.conditions.seen_by(Rights("nobody"))
    assert nobody.resolve(["user_x_running"], ExpRun(0, 0))["p"].payload.revision == 1
    assert nobody.list_iovs("user_x_open") == ready.conditions.list_iovs("user_x_open")
    assert nobody.audit() == ready.conditions.audit()
