"""What every conditions database behind the port does, as tests; an adapter's test class gives the fixture."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from b2cal_caf.local_database import LocalDatabase
from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import TRANSITIONS, LocalPayload, Release, TagState, broken_link
from b2cal_core.plans import PlanDocument, PlanKind, fingerprint_of, moved
from b2cal_core.ports import ConditionsDB
from b2cal_core.provenance import Provenance
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan, applied, plan_running_update
from b2cal_core.ranges import ExpRun, IoV

ALWAYS = IoV(0, 0, -1, -1)
# The way from OPEN to each state.
PATHS: dict[TagState, tuple[TagState, ...]] = {
    TagState.OPEN: (),
    TagState.TESTING: (TagState.TESTING,),
    TagState.VALIDATED: (TagState.TESTING, TagState.VALIDATED),
    TagState.PUBLISHED: (TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED),
    TagState.RUNNING: (TagState.RUNNING,),
    TagState.INVALID: (TagState.TESTING, TagState.VALIDATED, TagState.PUBLISHED, TagState.INVALID),
}

RELEASE = Release("anna", "bert", "bucket 12 is good")
RECORD = Provenance(
    code="release-09, caf_p.py 1a2b3c",
    inputs=("run1.root",),
    runs=((1, 1),),
    tags=("online",),
    upstream=(),
    config={},
    validation={"verdict": "pass"},
)

Write = Callable[[str], Path]


def iov(text: str) -> IoV:
    return IoV(*map(int, text.split(",")))


def bring(conditions: ConditionsDB, tag: str, state: TagState) -> None:
    """Take an OPEN tag to a state."""
    now = TagState.OPEN
    for new in PATHS[state]:
        conditions.set_state(tag, expected=now, new=new)
        now = new


def contents(iovs: Iterable[TagIov]) -> set[tuple[str, int, str]]:
    return {(link.name, link.revision, str(link.iov)) for link in iovs}


def document_of(
    conditions: ConditionsDB,
    target: str,
    operations: Iterable[Operation],
    *,
    first_run: ExpRun | None = None,
    kind: PlanKind = PlanKind.running_update,
) -> PlanDocument:
    """A plan of these operations for the target as it is now, whatever the rules say of them."""
    plan, before = UpdatePlan(tuple(operations)), conditions.list_iovs(target)
    fingerprint, after = conditions.fingerprint(target), applied(before, plan)
    old, new = ({TagIov(link.name, link.revision, link.iov) for link in links} for links in (before, after))
    known = conditions.payloads_of({(op.name, op.revision) for op in plan.operations if op.kind == "create"})
    return PlanDocument(
        kind,
        target,
        (),
        fingerprint,
        moved(fingerprint, added=new - old, dropped=old - new),
        plan,
        first_run=first_run,
        checksums=tuple((p.name, p.revision, p.md5) for p in known.values()),
    )


def update_of(conditions: ConditionsDB, target: str, staging: str, first_run: ExpRun, mode: UpdateMode) -> PlanDocument:
    """The plan of a running update."""
    plan = plan_running_update(conditions.list_iovs(target), conditions.list_iovs(staging), first_run, mode)
    return document_of(conditions, target, plan.operations, first_run=first_run)


def vouch(conditions: ConditionsDB, tag: str) -> None:
    """Record complete provenance of everything in a tag."""
    known = conditions.payloads_of({(link.name, link.revision) for link in conditions.list_iovs(tag)})
    records = {(payload.name, payload.md5): RECORD for payload in known.values()}
    conditions.record_provenance(records, author="anna")


class ConditionsContract:
    """Subclass it with a fixture ``conditions`` that gives an empty database."""

    @pytest.fixture
    def write(self, tmp_path: Path) -> Write:
        """Writes a payload file with this text."""

        def write(text: str) -> Path:
            file = tmp_path / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.root"
            file.write_text(text)
            return file

        return write

    @pytest.fixture
    def make(self, conditions: ConditionsDB, write: Write) -> Callable[..., None]:
        """Makes a tag from lines (name, content, IoV)."""

        def make(tag: str, *lines: tuple[str, str, str], state: TagState = TagState.OPEN) -> None:
            conditions.create_tag(tag)
            local = [LocalPayload(name, write(text), iov(where)) for name, text, where in lines]
            conditions.replace_iovs(tag, {name for name, _, _ in lines}, local)
            bring(conditions, tag, state)

        return make

    # Tags

    def test_a_tag_that_is_not_there_is_absent_and_not_an_error(self, conditions: ConditionsDB) -> None:
        assert conditions.get_tag("nobody") is None
        assert conditions.list_tags() == ()

    def test_a_new_tag_is_open_and_listed_by_pattern_and_name(self, conditions: ConditionsDB) -> None:
        tags = [conditions.create_tag(name, "for a test") for name in ("prompt_b", "online", "prompt_a")]
        assert {tag.state for tag in tags} == {TagState.OPEN}
        assert conditions.get_tag("online") == tags[1]
        assert [tag.name for tag in conditions.list_tags("prompt_*")] == ["prompt_a", "prompt_b"]

    def test_a_tag_is_made_once(self, conditions: ConditionsDB) -> None:
        conditions.create_tag("online", "the first")
        with pytest.raises(ConflictError, match="online"):
            conditions.create_tag("online", "the second")
        found = conditions.get_tag("online")
        assert found is not None
        assert found.description == "the first"

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a.b"])
    def test_a_tag_has_a_name_that_every_database_takes(self, conditions: ConditionsDB, name: str) -> None:
        with pytest.raises(ConfigurationError, match="global tag"):
            conditions.create_tag(name)

    def test_an_unknown_tag_is_named_with_those_of_similar_name(self, conditions: ConditionsDB) -> None:
        conditions.create_tag("data_prompt")
        with pytest.raises(ConfigurationError, match=r"'data_promt'.*data_prompt"):
            conditions.list_iovs("data_promt")

    @pytest.mark.parametrize("state", list(TagState))
    def test_only_the_documented_transitions_are_possible(self, conditions: ConditionsDB, state: TagState) -> None:
        for number, new in enumerate(TagState):
            tag = f"tag{number}"
            conditions.create_tag(tag)
            bring(conditions, tag, state)
            if new in TRANSITIONS[state]:
                assert conditions.set_state(tag, expected=state, new=new).state is new
            else:
                with pytest.raises(ConflictError, match=tag):
                    conditions.set_state(tag, expected=state, new=new)
                found = conditions.get_tag(tag)
                assert found is not None
                assert found.state is state

    def test_a_state_that_is_not_the_expected_one_is_not_changed(self, conditions: ConditionsDB) -> None:
        conditions.create_tag("a")
        with pytest.raises(ConflictError, match="a is OPEN"):
            conditions.set_state("a", expected=TagState.TESTING, new=TagState.VALIDATED)

    # Payloads

    def test_revisions_count_per_name_from_one(self, conditions: ConditionsDB, write: Write) -> None:
        assert [conditions.put_payload("p", write(text)).revision for text in ("one", "two")] == [1, 2]
        assert conditions.put_payload("q", write("one")).revision == 1

    def test_the_same_name_and_content_is_the_same_payload(self, conditions: ConditionsDB, write: Write) -> None:
        first = conditions.put_payload("p", write("one"))
        conditions.put_payload("p", write("two"))
        assert conditions.put_payload("p", write("one")) == first

    def test_a_payload_is_found_by_checksum_and_by_revision(self, conditions: ConditionsDB, write: Write) -> None:
        payload = conditions.put_payload("p", write("one"))
        assert payload.md5 == hashlib.md5(b"one", usedforsecurity=False).hexdigest()
        assert payload.sha256 in {hashlib.sha256(b"one").hexdigest(), None}
        wanted = [("p", payload.md5), ("q", payload.md5), ("p", "0" * 32)]
        assert conditions.find_payloads(wanted) == {("p", payload.md5): payload}
        assert conditions.payload("p", 1) == payload
        assert conditions.payload("p", 2) is None
        assert conditions.payload("q", 1) is None

    def test_more_payloads_than_fit_one_request_are_found(self, conditions: ConditionsDB, write: Write) -> None:
        payload = conditions.put_payload("p", write("one"))
        wanted = [("p", f"{number:032x}") for number in range(1200)]
        assert conditions.find_payloads([*wanted, ("p", payload.md5)]) == {("p", payload.md5): payload}

    def test_the_content_comes_back_to_the_byte(self, conditions: ConditionsDB, write: Write) -> None:
        payload = conditions.put_payload("p", write("one"))
        assert conditions.payload_file(payload).read_bytes() == b"one"

    def test_a_changed_source_file_does_not_change_the_payload(self, conditions: ConditionsDB, write: Write) -> None:
        file = write("one")
        payload = conditions.put_payload("p", file)
        file.write_text("another")
        assert conditions.payload_file(payload).read_bytes() == b"one"

    def test_a_missing_file_is_named(self, conditions: ConditionsDB, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"absent\.root"):
            conditions.put_payload("p", tmp_path / "absent.root")

    @pytest.mark.parametrize("name", ["", "a/b", "a b", "a#b", "../p", ".p", "a\nb"])
    def test_a_payload_name_that_breaks_files_is_refused(
        self, conditions: ConditionsDB, write: Write, name: str
    ) -> None:
        with pytest.raises(ConfigurationError, match="payload"):
            conditions.put_payload(name, write("one"))

    # Contents of OPEN tags

    def test_a_tag_lists_what_it_was_given_in_order(self, conditions: ConditionsDB, make: Callable[..., None]) -> None:
        make("a", ("q", "3", "0,0,-1,-1"), ("p", "2", "1,0,1,-1"), ("p", "1", "0,0,0,-1"))
        listed = conditions.list_iovs("a")
        assert [(link.name, str(link.iov)) for link in listed] == [
            ("p", "0,0,0,-1"),
            ("p", "1,0,1,-1"),
            ("q", "0,0,-1,-1"),
        ]
        assert len({link.id for link in listed} - {None}) == 3

    def test_a_listing_can_be_limited_to_runs(self, conditions: ConditionsDB, make: Callable[..., None]) -> None:
        make("a", ("p", "1", "0,0,0,9"), ("p", "2", "0,10,0,-1"), ("p", "3", "1,0,-1,-1"))
        assert [str(link.iov) for link in conditions.list_iovs("a", iov("0,10,0,12"))] == ["0,10,0,-1"]
        assert len(conditions.list_iovs("a", iov("0,9,1,0"))) == 3

    def test_the_end_of_an_experiment_stays_as_it_was_written(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        shapes = ["0,0,0,0", "0,1,0,-1", "1,0,2,5", "2,6,2,-1", "3,0,-1,-1"]
        make("a", *(("p", shape, shape) for shape in shapes))
        assert [str(link.iov) for link in conditions.list_iovs("a")] == shapes

    def test_replacing_drops_what_the_names_had_and_nothing_else(
        self, conditions: ConditionsDB, make: Callable[..., None], write: Write
    ) -> None:
        make("a", ("p", "1", "0,0,-1,-1"), ("q", "2", "0,0,-1,-1"), ("r", "3", "0,0,-1,-1"))
        conditions.replace_iovs("a", ["p", "r"], [LocalPayload("p", write("4"), iov("1,0,1,5"))])
        assert contents(conditions.list_iovs("a")) == {("p", 2, "1,0,1,5"), ("q", 1, "0,0,-1,-1")}

    def test_replacing_by_the_same_changes_nothing(
        self, conditions: ConditionsDB, make: Callable[..., None], write: Write
    ) -> None:
        make("a", ("p", "1", "0,0,-1,-1"))
        before, log = conditions.list_iovs("a"), conditions.audit("a")
        assert conditions.replace_iovs("a", ["p"], [LocalPayload("p", write("1"), ALWAYS)]) == before
        assert conditions.list_iovs("a") == before
        assert conditions.audit("a") == log

    def test_one_content_in_several_iovs_is_one_payload(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        make("a", ("p", "1", "0,0,0,5"), ("p", "2", "0,6,0,9"), ("p", "1", "0,10,-1,-1"))
        assert [link.revision for link in conditions.list_iovs("a")] == [1, 2, 1]

    def test_overlapping_iovs_of_one_name_are_refused_with_name_and_runs(
        self, conditions: ConditionsDB, make: Callable[..., None], write: Write
    ) -> None:
        make("a", ("p", "1", "0,0,-1,-1"))
        pair = [LocalPayload("p", write("2"), iov("0,0,0,5")), LocalPayload("p", write("3"), iov("0,5,0,7"))]
        with pytest.raises(ConflictError, match=r"p .*0,0,0,5.*0,5,0,7"):
            conditions.replace_iovs("a", ["p"], pair)
        assert contents(conditions.list_iovs("a")) == {("p", 1, "0,0,-1,-1")}

    def test_a_payload_outside_the_names_is_refused(self, conditions: ConditionsDB, write: Write) -> None:
        conditions.create_tag("a")
        with pytest.raises(ConfigurationError, match="q"):
            conditions.replace_iovs("a", ["p"], [LocalPayload("q", write("1"), ALWAYS)])

    @pytest.mark.parametrize("state", sorted(set(TagState) - {TagState.OPEN}))
    def test_only_an_open_tag_takes_new_content(
        self, conditions: ConditionsDB, make: Callable[..., None], write: Write, state: TagState
    ) -> None:
        make("a", ("p", "1", "0,0,0,-1"), state=state)
        fingerprint = conditions.fingerprint("a")
        with pytest.raises(ConflictError, match=state):
            conditions.replace_iovs("a", ["p"], [LocalPayload("p", write("2"), ALWAYS)])
        with pytest.raises(ConflictError, match=state):
            conditions.add_iovs("a", [TagIov("p", 1, iov("1,0,1,-1"))])
        assert conditions.fingerprint("a") == fingerprint

    def test_existing_payloads_are_linked_once(self, conditions: ConditionsDB, make: Callable[..., None]) -> None:
        make("a", ("p", "1", "0,0,0,-1"))
        link = TagIov("p", 1, iov("1,0,1,-1"))
        after = conditions.add_iovs("a", [link])
        assert contents(after) == contents(conditions.list_iovs("a")) == {("p", 1, "0,0,0,-1"), ("p", 1, "1,0,1,-1")}
        assert conditions.add_iovs("a", [link]) == after

    def test_a_link_of_an_unknown_payload_or_one_that_overlaps_is_refused(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        make("a", ("p", "1", "0,0,0,-1"))
        with pytest.raises(DataError, match="p revision 7"):
            conditions.add_iovs("a", [TagIov("p", 7, iov("1,0,1,-1"))])
        with pytest.raises(ConflictError, match=r"p .*0,5,1,0"):
            conditions.add_iovs("a", [TagIov("p", 1, iov("0,5,1,0"))])
        assert len(conditions.list_iovs("a")) == 1

    def test_a_clone_has_the_content_and_goes_its_own_way(
        self, conditions: ConditionsDB, make: Callable[..., None], write: Write
    ) -> None:
        make("a", ("p", "1", "0,0,-1,-1"), ("q", "2", "0,0,-1,-1"))
        conditions.clone_tag("a", "snapshot", state=TagState.PUBLISHED)
        conditions.replace_iovs("a", ["p"], [LocalPayload("p", write("3"), ALWAYS)])
        assert contents(conditions.list_iovs("snapshot")) == {("p", 1, "0,0,-1,-1"), ("q", 1, "0,0,-1,-1")}
        assert conditions.resolve(["snapshot"], ExpRun(1, 1))["p"].payload.revision == 1
        with pytest.raises(ConflictError, match="snapshot"):
            conditions.clone_tag("a", "snapshot")

    # Reading through a chain

    def test_a_run_has_the_payload_whose_iov_holds_it_ends_included(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        make("a", ("p", "1", "0,5,0,9"), ("p", "2", "0,10,0,-1"), ("p", "3", "2,0,-1,-1"))
        expected = {(0, 4): None, (0, 5): 1, (0, 9): 1, (0, 10): 2, (0, 10**6): 2, (1, 0): None, (2, 0): 3, (9, 9): 3}
        for run, revision in expected.items():
            found = conditions.resolve(["a"], ExpRun(*run)).get("p")
            assert (found.payload.revision if found else None) == revision, run

    def test_the_last_tag_of_a_chain_has_the_highest_priority(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        make("base", ("p", "1", "0,0,-1,-1"), ("q", "2", "0,0,-1,-1"))
        make("staging", ("p", "3", "1,0,1,-1"))
        found = conditions.resolve(["base", "staging"], ExpRun(1, 3))
        assert {name: (one.tag, one.payload.revision) for name, one in found.items()} == {
            "p": ("staging", 2),
            "q": ("base", 1),
        }
        assert found["p"].iov == iov("1,0,1,-1")
        assert conditions.resolve(["base", "staging"], ExpRun(2, 0))["p"].tag == "base"
        assert conditions.resolve(["staging", "base"], ExpRun(1, 3))["p"].tag == "base"

    def test_a_wanted_name_that_no_tag_has_is_an_error_that_says_where_it_was_sought(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        make("a", ("p", "1", "0,0,0,-1"))
        assert set(conditions.resolve(["a"], ExpRun(0, 1), ["p"])) == {"p"}
        with pytest.raises(DataError, match=r"q.*exp 0 run 1.*a"):
            conditions.resolve(["a"], ExpRun(0, 1), ["p", "q"])
        with pytest.raises(DataError, match=r"p.*exp 1 run 0"):
            conditions.resolve(["a"], ExpRun(1, 0), ["p"])

    def test_an_invalid_tag_is_never_served(self, conditions: ConditionsDB, make: Callable[..., None]) -> None:
        make("a", ("p", "1", "0,0,-1,-1"), state=TagState.INVALID)
        with pytest.raises(ConflictError, match="INVALID"):
            conditions.resolve(["a"], ExpRun(0, 0))

    def test_an_unknown_tag_in_a_chain_is_an_error(self, conditions: ConditionsDB) -> None:
        with pytest.raises(ConfigurationError, match="nobody"):
            conditions.resolve(["nobody"], ExpRun(0, 0))

    # Export

    def test_an_export_answers_like_the_chain(
        self, conditions: ConditionsDB, make: Callable[..., None], tmp_path: Path
    ) -> None:
        make("base", ("p", "1", "0,0,-1,-1"), ("q", "2", "0,3,0,4"))
        make("staging", ("p", "2", "0,2,0,3"))
        text_file = conditions.export(["base", "staging"], tmp_path / "out", within=iov("0,1,0,6"))
        assert text_file == tmp_path / "out" / "database.txt"
        local = LocalDatabase(tmp_path / "out")
        for number in range(8):
            run = ExpRun(0, number)
            wanted = conditions.resolve(["base", "staging"], run) if 1 <= number <= 6 else {}
            for name in ("p", "q"):
                found, one = local.find(name, run), wanted.get(name)
                assert (found.file.read_bytes() if found else None) == (
                    conditions.payload_file(one.payload).read_bytes() if one else None
                )

    def test_an_export_has_one_file_per_content_and_only_the_names_asked_for(
        self, conditions: ConditionsDB, make: Callable[..., None], tmp_path: Path
    ) -> None:
        make("a", ("p", "1", "0,0,0,1"), ("p", "2", "0,2,0,3"), ("p", "1", "0,4,-1,-1"), ("q", "3", "0,0,-1,-1"))
        conditions.export(["a"], tmp_path / "out", within=ALWAYS, names=["p", "absent"])
        assert len(LocalDatabase(tmp_path / "out").entries()) == 3
        assert len(list((tmp_path / "out").glob("dbstore_*.root"))) == 2

    def test_an_empty_export_is_a_storage_without_lines(self, conditions: ConditionsDB, tmp_path: Path) -> None:
        conditions.create_tag("a")
        assert conditions.export(["a"], tmp_path / "out", within=ALWAYS).read_text() == ""

    def test_a_complete_export_is_left_alone_and_a_damaged_one_mended(
        self, conditions: ConditionsDB, make: Callable[..., None], tmp_path: Path
    ) -> None:
        make("a", ("p", "1", "0,0,-1,-1"))
        text_file = conditions.export(["a"], tmp_path / "out", within=ALWAYS)
        before = {file.name: file.stat().st_mtime_ns for file in text_file.parent.iterdir()}
        conditions.export(["a"], tmp_path / "out", within=ALWAYS)
        assert {file.name: file.stat().st_mtime_ns for file in text_file.parent.iterdir()} == before
        (payload_file,) = text_file.parent.glob("dbstore_*.root")
        payload_file.chmod(0o644)
        payload_file.write_text("rubbish")
        conditions.export(["a"], tmp_path / "out", within=ALWAYS)
        found = LocalDatabase(tmp_path / "out").find("p", ExpRun(0, 0))
        assert found is not None
        assert found.file.read_text() == "1"

    def test_an_export_of_changed_content_replaces_the_lines(
        self, conditions: ConditionsDB, make: Callable[..., None], write: Write, tmp_path: Path
    ) -> None:
        make("a", ("p", "1", "0,0,-1,-1"))
        conditions.export(["a"], tmp_path / "out", within=ALWAYS)
        conditions.replace_iovs("a", ["p"], [LocalPayload("p", write("2"), iov("0,0,0,5"))])
        conditions.export(["a"], tmp_path / "out", within=ALWAYS)
        (entry,) = LocalDatabase(tmp_path / "out").entries()
        assert (entry.file.read_text(), str(entry.iov)) == ("2", "0,0,0,5")

    # Publishing

    @pytest.fixture
    def ready(self, conditions: ConditionsDB, make: Callable[..., None]) -> PlanDocument:
        """A plan that brings payload p, with provenance, from a staging tag into a RUNNING one."""
        make("running", ("p", "1", "0,0,-1,-1"), state=TagState.RUNNING)
        make("staging", ("p", "2", "0,0,-1,-1"), state=TagState.VALIDATED)
        vouch(conditions, "staging")
        return update_of(conditions, "running", "staging", ExpRun(1, 0), UpdateMode.strict)

    def test_the_golden_example_of_a_running_update(self, conditions: ConditionsDB, make: Callable[..., None]) -> None:
        make(
            "running",
            ("p1", "r1", "0,1,1,0"),
            ("p1", "r2", "1,1,-1,-1"),
            ("p2", "r1", "0,1,-1,-1"),
            ("p3", "r1", "0,1,1,0"),
            ("p4", "r1", "0,1,-1,-1"),
            ("p5", "r1", "0,1,-1,-1"),
            state=TagState.RUNNING,
        )
        make(
            "staging",
            ("p1", "r3", "0,0,1,8"),
            ("p1", "r4", "1,9,1,20"),
            ("p2", "r2", "1,5,1,20"),
            ("p3", "r2", "0,0,-1,-1"),
            ("p4", "r1", "0,0,1,20"),
            state=TagState.VALIDATED,
        )
        vouch(conditions, "staging")
        plan = update_of(conditions, "running", "staging", ExpRun(1, 2), UpdateMode.allow_closed)
        conditions.apply(plan, RELEASE)
        assert contents(conditions.list_iovs("running")) == {
            ("p1", 1, "0,1,1,0"),
            ("p1", 2, "1,1,1,1"),
            ("p1", 3, "1,2,1,8"),
            ("p1", 4, "1,9,1,20"),
            ("p2", 1, "0,1,1,4"),
            ("p2", 2, "1,5,1,20"),
            ("p3", 1, "0,1,1,0"),
            ("p3", 2, "1,2,-1,-1"),
            ("p4", 1, "0,1,1,20"),
            ("p5", 1, "0,1,-1,-1"),
        }
        assert conditions.fingerprint("running") == plan.predicted

    def test_what_a_plan_changed_is_given_back_as_it_was_read(
        self, conditions: ConditionsDB, ready: PlanDocument
    ) -> None:
        after = conditions.apply(ready, RELEASE)
        assert contents(after) == {("p", 1, "0,0,0,-1"), ("p", 2, "1,0,-1,-1")}
        assert after == conditions.list_iovs("running")

    def test_applying_a_plan_twice_applies_it_once(self, conditions: ConditionsDB, ready: PlanDocument) -> None:
        first = conditions.apply(ready, RELEASE)
        log = conditions.audit()
        assert (conditions.apply(ready, RELEASE), conditions.audit()) == (first, log)

    def test_a_plan_made_from_other_content_is_refused(
        self, conditions: ConditionsDB, make: Callable[..., None], ready: PlanDocument
    ) -> None:
        make("other", ("p", "3", "0,0,-1,-1"), state=TagState.VALIDATED)
        vouch(conditions, "other")
        late = update_of(conditions, "running", "other", ExpRun(1, 0), UpdateMode.strict)
        conditions.apply(ready, RELEASE)
        before = conditions.list_iovs("running")
        with pytest.raises(ConflictError, match="running was changed"):
            conditions.apply(late, RELEASE)
        assert conditions.list_iovs("running") == before

    @pytest.mark.parametrize(
        "operation",
        [
            Operation("create", "p", 1, iov("0,5,0,7")),
            Operation("create", "p", 1, iov("2,0,2,-1")),
            Operation("close", "p", 1, iov("0,0,0,3")),
            Operation("close", "p", 2, iov("2,0,2,5")),
            Operation("close", "q", 1, iov("0,0,0,5")),
            Operation("drop", "p", 2, iov("1,0,-1,-1")),
        ],
        ids=["before", "overlapping", "closed already", "another start", "unknown", "dropping"],
    )
    def test_a_plan_that_would_change_the_past_is_refused_whoever_made_it(
        self, conditions: ConditionsDB, make: Callable[..., None], operation: Operation
    ) -> None:
        make("running", ("p", "1", "0,0,0,9"), ("p", "2", "1,0,-1,-1"), state=TagState.RUNNING)
        vouch(conditions, "running")
        before = conditions.fingerprint("running")
        with pytest.raises(ConflictError, match=r"running|p"):
            conditions.apply(document_of(conditions, "running", [operation], first_run=ExpRun(0, 0)), RELEASE)
        assert conditions.fingerprint("running") == before

    def test_a_plan_that_reaches_before_its_first_run_is_refused(
        self, conditions: ConditionsDB, ready: PlanDocument
    ) -> None:
        early = document_of(conditions, "running", ready.plan.operations, first_run=ExpRun(2, 0))
        with pytest.raises(ConflictError, match="running"):
            conditions.apply(early, RELEASE)
        with pytest.raises(ConflictError, match="running"):
            conditions.apply(document_of(conditions, "running", ready.plan.operations), RELEASE)
        assert contents(conditions.list_iovs("running")) == {("p", 1, "0,0,-1,-1")}

    def test_a_plan_with_an_unknown_payload_or_other_content_than_was_approved_is_refused(
        self, conditions: ConditionsDB, ready: PlanDocument
    ) -> None:
        unknown = document_of(conditions, "running", [Operation("create", "q", 3, ALWAYS)], first_run=ExpRun(0, 0))
        with pytest.raises(DataError, match="q revision 3"):
            conditions.apply(unknown, RELEASE)
        other = replace(ready, checksums=(("p", 2, "0" * 32),))
        with pytest.raises(DataError, match="p revision 2"):
            conditions.apply(other, RELEASE)
        assert contents(conditions.list_iovs("running")) == {("p", 1, "0,0,-1,-1")}

    def test_a_payload_without_complete_provenance_is_not_published(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        make("running", state=TagState.RUNNING)
        make("staging", ("p", "2", "0,0,-1,-1"), state=TagState.VALIDATED)
        plan = update_of(conditions, "running", "staging", ExpRun(1, 0), UpdateMode.strict)
        with pytest.raises(DataError, match=r"p .*no record"):
            conditions.apply(plan, RELEASE)
        payload = conditions.payload("p", 1)
        assert payload is not None
        lacking = RECORD.model_copy(update={"runs": None})
        conditions.record_provenance({("p", payload.md5): lacking}, author="anna")
        with pytest.raises(DataError, match=r"p .*lacks runs"):
            conditions.apply(plan, RELEASE)
        assert conditions.list_iovs("running") == ()

    @pytest.mark.parametrize("release", [Release("", "b", "c"), Release("a", " ", "c"), Release("a", "b", "")])
    def test_nothing_is_published_without_author_approver_and_reason(
        self, conditions: ConditionsDB, ready: PlanDocument, release: Release
    ) -> None:
        with pytest.raises(ConfigurationError, match=r"author|approver|reason"):
            conditions.apply(ready, release)
        assert conditions.fingerprint("running") == ready.fingerprint

    @pytest.mark.parametrize("state", sorted(set(TagState) - {TagState.RUNNING}))
    def test_only_a_running_tag_is_updated(
        self, conditions: ConditionsDB, make: Callable[..., None], state: TagState
    ) -> None:
        make("a", ("p", "1", "0,0,-1,-1"), state=state)
        close = Operation("close", "p", 1, iov("0,0,0,5"))
        plan = document_of(conditions, "a", [close], first_run=ExpRun(0, 6))
        with pytest.raises(ConflictError, match=state):
            conditions.apply(plan, RELEASE)
        assert conditions.fingerprint("a") == plan.fingerprint

    def test_an_edit_changes_an_open_tag_and_no_other(
        self, conditions: ConditionsDB, make: Callable[..., None]
    ) -> None:
        make("a", ("p", "1", "0,0,0,5"), ("q", "2", "0,0,-1,-1"))
        edit = document_of(
            conditions,
            "a",
            [Operation("drop", "p", 1, iov("0,0,0,5")), Operation("create", "p", 1, iov("0,0,0,-1"))],
            kind=PlanKind.edit,
        )
        conditions.apply(edit, RELEASE)
        assert contents(conditions.list_iovs("a")) == {("p", 1, "0,0,0,-1"), ("q", 1, "0,0,-1,-1")}
        assert conditions.fingerprint("a") == edit.predicted
        gone = Operation("drop", "p", 1, iov("0,0,0,5"))
        with pytest.raises(ConflictError, match="p revision 1"):
            conditions.apply(document_of(conditions, "a", [gone], kind=PlanKind.edit), RELEASE)
        bring(conditions, "a", TagState.TESTING)
        again = document_of(conditions, "a", [Operation("drop", "p", 1, iov("0,0,0,-1"))], kind=PlanKind.edit)
        with pytest.raises(ConflictError, match="a is TESTING"):
            conditions.apply(again, RELEASE)

    # Leases

    def test_a_lease_keeps_all_others_from_changing_the_tag(
        self, conditions: ConditionsDB, ready: PlanDocument, write: Write
    ) -> None:
        conditions.create_tag("open")
        conditions.lease("open", holder="anna", seconds=60)
        lease = conditions.lease("running", holder="anna", seconds=60)
        with pytest.raises(ConflictError, match="anna"):
            conditions.lease("running", holder="bert", seconds=60)
        with pytest.raises(ConflictError, match="anna"):
            conditions.apply(ready, RELEASE)
        with pytest.raises(ConflictError, match="anna"):
            conditions.set_state("open", expected=TagState.OPEN, new=TagState.TESTING)
        with pytest.raises(ConflictError, match="anna"):
            conditions.replace_iovs("open", ["p"], [LocalPayload("p", write("1"), ALWAYS)])
        with pytest.raises(ConflictError, match="anna"):
            conditions.add_iovs("open", [TagIov("p", 1, ALWAYS)])
        assert conditions.list_iovs("open") == ()
        conditions.apply(ready, RELEASE, lease=lease)
        assert conditions.fingerprint("running") == ready.predicted

    def test_a_lease_that_ended_or_ran_out_passes_on_and_is_worth_nothing_afterwards(
        self, conditions: ConditionsDB, ready: PlanDocument
    ) -> None:
        first = conditions.lease("running", holder="anna", seconds=60)
        assert conditions.lease("running", holder="anna", seconds=120).number == first.number
        conditions.end_lease(first)
        second = conditions.lease("running", holder="bert", seconds=0)
        third = conditions.lease("running", holder="carl", seconds=60)
        assert first.number < second.number < third.number
        conditions.end_lease(second)
        for stale in (first, second):
            with pytest.raises(ConflictError, match="passed to another"):
                conditions.apply(ready, RELEASE, lease=stale)
        assert conditions.fingerprint("running") == ready.fingerprint
        conditions.apply(ready, RELEASE, lease=third)

    def test_the_fingerprint_is_that_of_state_and_content(
        self, conditions: ConditionsDB, make: Callable[..., None], write: Write
    ) -> None:
        make("a", ("p", "1", "0,0,0,5"), ("p", "2", "0,6,0,9"))
        make("b", ("p", "2", "0,6,0,9"), ("p", "1", "0,0,0,5"))
        same = conditions.fingerprint("a")
        assert conditions.fingerprint("b") == same
        conditions.set_state("b", expected=TagState.OPEN, new=TagState.TESTING)
        assert conditions.fingerprint("b") != same
        conditions.set_state("b", expected=TagState.TESTING, new=TagState.OPEN)
        conditions.replace_iovs("b", ["p"], [LocalPayload("p", write("1"), iov("0,0,0,5"))])
        assert conditions.fingerprint("b") != same
        assert same == fingerprint_of(TagState.OPEN, conditions.list_iovs("a"))
        assert conditions.fingerprint("b") == fingerprint_of(TagState.OPEN, conditions.list_iovs("b"))

    # Audit log

    def test_every_change_is_logged_with_who_and_why(self, conditions: ConditionsDB, ready: PlanDocument) -> None:
        conditions.apply(ready, RELEASE)
        (last,) = [entry for entry in conditions.audit("running") if entry.action == "apply"]
        assert (last.author, last.approver, last.reason) == ("anna", "bert", "bucket 12 is good")
        assert (last.tag, last.plan_hash) == ("running", ready.hash)
        assert last.when.utcoffset() is not None
        assert {"create_tag", "replace_iovs", "set_state"} <= {entry.action for entry in conditions.audit("running")}

    def test_the_log_is_a_chain_in_which_a_changed_or_missing_line_shows(
        self, conditions: ConditionsDB, ready: PlanDocument
    ) -> None:
        conditions.note("running", action="approve", release=RELEASE, detail="{}", plan_hash=ready.hash)
        conditions.apply(ready, RELEASE)
        log = conditions.audit()
        assert broken_link(log) is None
        assert conditions.audit(since=log[1].id) == log[2:]
        assert broken_link([*log[:2], *log[3:]]) == log[3]
        forged = replace(log[-2], reason="another")
        assert broken_link([*log[:-2], forged, log[-1]]) == forged

    def test_of_several_records_of_one_payload_the_last_counts(self, conditions: ConditionsDB, write: Write) -> None:
        payload = conditions.put_payload("p", write("1"))
        key = (payload.name, payload.md5)
        assert conditions.provenance([key]) == {}
        for code in ("one", "two", "two"):
            conditions.record_provenance({key: RECORD.model_copy(update={"code": code})}, author="anna")
        assert conditions.provenance([key, ("q", payload.md5)]) == {key: RECORD.model_copy(update={"code": "two"})}
        assert [entry.action for entry in conditions.audit()].count("provenance") == 2

    def test_what_was_refused_is_not_logged(self, conditions: ConditionsDB, make: Callable[..., None]) -> None:
        make("a", ("p", "1", "0,0,-1,-1"), state=TagState.PUBLISHED)
        log = conditions.audit()
        with pytest.raises(ConflictError):
            conditions.set_state("a", expected=TagState.PUBLISHED, new=TagState.OPEN)
        with pytest.raises(ConflictError):
            conditions.replace_iovs("a", ["p"], [])
        assert conditions.audit() == log

    # The past

    def test_a_tag_can_be_read_as_it_was_or_says_that_it_cannot(
        self, conditions: ConditionsDB, ready: PlanDocument
    ) -> None:
        line = conditions.audit()[-1].id
        if not conditions.capabilities.time_machine:
            with pytest.raises(ConfigurationError, match="as it was"):
                conditions.list_iovs("running", as_of=line)
            with pytest.raises(ConfigurationError, match="as it was"):
                conditions.resolve(["running"], ExpRun(1, 0), as_of=line)
            return
        before = conditions.list_iovs("running")
        conditions.apply(ready, RELEASE)
        assert conditions.list_iovs("running", as_of=line) == before
        assert conditions.resolve(["running"], ExpRun(1, 0), as_of=line)["p"].payload.revision == 1
        now = conditions.audit()[-1].id
        assert conditions.list_iovs("running", as_of=now) == conditions.list_iovs("running")
        with pytest.raises(ConfigurationError, match=f"{now + 1}"):
            conditions.list_iovs("running", as_of=now + 1)
