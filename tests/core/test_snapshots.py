"""Snapshots of a chain of tags: the same answers as the database gave, whatever becomes of the tags."""

import json

import pytest
from core.tag_grid import ANY_TAGS, GRID, NAMES, link, seen
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.payloads import Payload, Resolved
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.snapshots import Snapshot, SnapshotLink, SnapshotTag, resolve_in

EVERYTHING = IoV(0, 0, -1, -1)


def md5_of(name: str, revision: int) -> str:
    return f"{name}-{revision}"


def snapshot_of(*tags, within: IoV = EVERYTHING) -> Snapshot:
    return Snapshot(
        tuple(
            SnapshotTag(
                f"tag{number}",
                "0-RUNNING",
                tuple(SnapshotLink(i.name, i.revision, md5_of(i.name, i.revision), i.iov) for i in tag),
            )
            for number, tag in enumerate(tags)
        ),
        within,
    )


@given(st.lists(ANY_TAGS, max_size=3))
def test_a_snapshot_answers_like_the_chain_did_the_last_tag_first(chain) -> None:
    snapshot = snapshot_of(*chain)
    for run in GRID:
        answers = resolve_in(snapshot, run)
        for name in NAMES:
            offers = [revision for tag in reversed(chain) if (revision := seen(tag, run, name)) is not None]
            found = answers.get(name)
            assert (found and found.payload) == (Payload(name, offers[0], md5_of(name, offers[0])) if offers else None)


@given(st.lists(ANY_TAGS, max_size=3))
def test_a_snapshot_that_was_stored_and_read_is_the_same(chain) -> None:
    snapshot = snapshot_of(*chain)
    again = Snapshot.from_json(snapshot.to_json())
    assert again == snapshot
    assert again.hash == snapshot.hash


def test_an_answer_tells_the_tag_and_the_iov_it_came_from() -> None:
    snapshot = snapshot_of([link("p", 1, 0, 0, -1, -1)], [link("p", 2, 1, 0, 1, 5)])
    assert snapshot.chain == ("tag0", "tag1")
    assert resolve_in(snapshot, ExpRun(1, 3), ["p"]) == {"p": Resolved(Payload("p", 2, "p-2"), IoV(1, 0, 1, 5), "tag1")}
    assert resolve_in(snapshot, ExpRun(2, 3), ["p"])["p"].tag == "tag0"


def test_a_name_or_a_run_the_snapshot_does_not_know_is_refused() -> None:
    snapshot = snapshot_of([link("p", 1, 1, 0, 1, 5)], within=IoV(1, 0, 1, 9))
    with pytest.raises(DataError, match="no payload q is valid in exp 1 run 3"):
        resolve_in(snapshot, ExpRun(1, 3), ["p", "q"])
    with pytest.raises(DataError, match="does not know exp 2 run 0"):
        resolve_in(snapshot, ExpRun(2, 0))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', '{"format": 1, "tags": [["a"]], "hash": ""}'])
def test_a_text_that_is_no_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no snapshot"):
        Snapshot.from_json(text)


def test_a_snapshot_that_was_changed_is_refused() -> None:
    document = json.loads(snapshot_of([link("p", 1, 1, 0, 1, 5)]).to_json())
    document["tags"][0][2][0][2] = "another"
    with pytest.raises(ConfigurationError, match="was changed after it was taken"):
        Snapshot.from_json(json.dumps(document))
