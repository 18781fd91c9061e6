"""Any sequence of single changes to an OPEN tag leaves tables, look-ups, history and fingerprint in agreement."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import TagState, broken_link
from b2cal_core.plans import fingerprint_of
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.rights import Rights
from resources.conditions import schema
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.server import lookups
from resources.conditions.server.bodies import uploaded_payload
from resources.conditions.server.by_id import LinkEdits

EDGES = [(exp, run) for exp in range(3) for run in range(3)]
RUNS = [ExpRun(*edge) for edge in EDGES]
IOVS = [IoV(*a, *b) for a, b in itertools.combinations_with_replacement(EDGES, 2)]
IOVS += [IoV(*a, -1, -1) for a in EDGES] + [IoV(*a, a[0], -1) for a in EDGES]
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "create", "change", "delete"]), st.integers(0, 3), st.sampled_from(IOVS)),
    max_size=12,
)
PAYLOADS = [("A", 1), ("A", 2), ("A", 3), ("B", 1)]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedConditionsDB:
    root: Path = tmp_path_factory.mktemp("links")
    made = EmbeddedConditionsDB(root / "database", pooled=True)
    for name, revision in PAYLOADS:
        (root / "file").write_bytes(f"{name} {revision}".encode())
        assert made.put_payload(name, root / "file").revision == revision
    return made


NAMES = (f"tag_{i}" for i in itertools.count())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_single_changes_agree_with_a_list_of_links(database, steps):
    tag = next(NAMES)
    database.create_tag(tag)
    with database.database.read() as connection:
        tag_id = lookups.tag_named(connection, tag).id
        ids = {(row.name, row.revision): row.id for row in lookups.payloads_of_name(connection, None)}
    edits = LinkEdits(database.database, Rights.everything("x"))
    model: dict[int, TagIov] = {}
    states = {database.audit(tag)[-1].id: frozenset()}
    for action, which, iov in steps:
        name, revision = PAYLOADS[which]
        wanted = TagIov(name, revision, iov)
        if action == "create":
            edits.create(tag_id, ids[name, revision], iov)
        elif model:
            link = sorted(model)[which % len(model)]
            wanted = TagIov(model[link].name, model[link].revision, iov)
            try:
                edits.delete(link) if action == "delete" else edits.change(link, iov)
            except ConflictError:
                assert action == "change"
                assert any(other == wanted for key, other in model.items() if key != link)
        model = {link.id: TagIov(link.name, link.revision, link.iov) for link in database.list_iovs(tag) if link.id}
        if action == "create":
            assert wanted in model.values()
        states[database.audit(tag)[-1].id] = frozenset(model.values())
    _agree(database, tag, tag_id, list(model.values()))
    for line, content in states.items():
        then = database.list_iovs(tag, as_of=line)
        assert frozenset(TagIov(link.name, link.revision, link.iov) for link in then) == content


def _agree(database: EmbeddedConditionsDB, tag: str, tag_id: int, links: list[TagIov]) -> None:
    assert database.fingerprint(tag) == fingerprint_of(TagState.OPEN, links)
    assert broken_link(database.audit()) is None
    with database.database.read() as connection:
        booked = {
            row.name_id: bool(row.disjoint)
            for row in connection.execute(schema.tag_names.select().where(schema.tag_names.c.tag_id == tag_id))
        }
    by_name = {name: [link.iov for link in links if link.name == name] for name in {link.name for link in links}}
    disjoint = [not any(a.overlaps(b) for a, b in itertools.combinations(iovs, 2)) for iovs in by_name.values()]
    assert sorted(booked.values()) == sorted(disjoint)
    for run in RUNS:
        best = {link.name: link for link in sorted(links, key=lambda link: link.revision) if link.iov.contains(run)}
        found = database.resolve([tag], run)
        assert {name: each.payload.revision for name, each in found.items()} == {
            name: link.revision for name, link in best.items()
        }


@given(content=st.binary() | st.lists(st.sampled_from([b"\r", b"\n", b"--", b"--b", b"\r\n", b"x"])).map(b"".join))
def test_whatever_bytes_a_payload_has_arrive(content):
    if b"\r\n--b" in b"\r\n" + content + b"\r\n":
        return  # no sender chooses a boundary that is in the content
    said = b'Content-Type: application/json\r\n\r\n{"checksum": "x"}'
    body = b"--b\r\nContent-Type: application/x-root\r\n\r\n" + content + b"\r\n--b\r\n" + said + b"\r\n--b--\r\n"
    assert uploaded_payload("multipart/mixed; boundary=b", body) == (content, {"checksum": "x"})
