"""``updateRunningPayloads``: all or nothing, and nothing that was decided for a run is decided anew."""

import json

import pytest
from belle2_client import Belle2Client, RefusedError

from b2cal_core.payloads import broken_link
from b2cal_core.plans import fingerprint_of
from resources.conditions.embedded import EmbeddedConditionsDB

RUNNING = {
    ("p1", 1): (0, 1, 1, 0),
    ("p1", 2): (1, 1, -1, -1),
    ("p2", 1): (0, 1, -1, -1),
    ("p3", 1): (0, 1, 1, 0),
    ("p4", 1): (0, 1, -1, -1),
    ("p5", 1): (0, 1, -1, -1),
}
NEW = [("p1", 3), ("p1", 4), ("p2", 2), ("p3", 2)]
AFTER = {
    ("p1", 1, 0, 1, 1, 0),
    ("p1", 2, 1, 1, 1, 1),
    ("p1", 3, 1, 2, 1, 8),
    ("p1", 4, 1, 9, 1, 20),
    ("p2", 1, 0, 1, 1, 4),
    ("p2", 2, 1, 5, 1, 20),
    ("p3", 1, 0, 1, 1, 0),
    ("p3", 2, 1, 2, -1, -1),
    ("p4", 1, 0, 1, 1, 20),
    ("p5", 1, 0, 1, -1, -1),
}
COUNT = iter(range(1000))


class Running:
    """A RUNNING tag with the content of the recorded example, and the payloads of its update uploaded."""

    def __init__(self, client: Belle2Client) -> None:
        self.client, self.name = client, f"running+{next(COUNT)}"
        tag = client.create_tag(self.name)["globalTagId"]
        self.payloads = {key: client.upload(key[0], b"%a" % (key,))["payloadId"] for key in [*RUNNING, *NEW]}
        self.links = {key: client.create_iov(tag, self.payloads[key], *iov) for key, iov in RUNNING.items()}
        client.set_state(self.name, "RUNNING")
        self.before = self.content

    @property
    def content(self) -> set[tuple[str, int, int, int, int, int]]:
        return self.client.content(self.name)

    def close(self, name: str, revision: int, exp: int, run: int):
        return "MODIFY", [self.links[name, revision], exp, run]

    def create(self, name: str, revision: int, *iov: int):
        return "CREATE", [self.payloads[name, revision], *iov]

    def update(self, *operations) -> None:
        self.client.update_running(self.name, *operations)

    def refuses(self, *operations) -> int:
        """The status of an update that changes nothing."""
        with pytest.raises(RefusedError) as caught:
            self.update(*operations)
        assert self.content == self.before
        assert self.client.tag(self.name)["globalTagStatus"]["name"] == "RUNNING"
        return caught.value.status

    @property
    def example(self):
        """The operations of the recorded example, closed payloads allowed, from experiment 1 run 2 on."""
        return [
            self.close("p1", 2, 1, 1),
            self.close("p2", 1, 1, 4),
            self.close("p4", 1, 1, 20),
            self.create("p1", 3, 1, 2, 1, 8),
            self.create("p1", 4, 1, 9, 1, 20),
            self.create("p2", 2, 1, 5, 1, 20),
            self.create("p3", 2, 1, 2, -1, -1),
        ]


@pytest.fixture
def running(client: Belle2Client) -> Running:
    return Running(client)


def test_the_recorded_example_comes_out_as_recorded(running, directory, url):
    past = [(exp, run) for exp, run in [(0, 0), (0, 1), (0, 99), (1, 0), (1, 1)]]
    seen = [running.client.valid(running.name, *run) for run in past]
    running.update(*running.example)
    assert running.content == AFTER
    assert [running.client.valid(running.name, *run) for run in past] == seen
    assert running.client.valid(running.name, 1, 21) == {("p3", 2), ("p5", 1)}
    database = EmbeddedConditionsDB(directory, url=url)
    lines = database.audit(running.name)
    assert (lines[-1].action, lines[-1].author) == ("apply", "manager")
    assert broken_link(database.audit()) is None
    found = database.list_iovs(running.name)
    tag = database.get_tag(running.name)
    assert tag is not None
    assert database.fingerprint(running.name) == fingerprint_of(tag.state, found)
    earlier = database.list_iovs(running.name, as_of=lines[-2].id)
    assert {(link.name, link.revision, *link.iov) for link in earlier} == running.before


def test_links_keep_their_ids_when_they_are_closed(running):
    running.update(*running.example)
    after = running.client.link_ids(running.name)
    assert {key: after[key] for key in running.links} == running.links


def test_the_same_update_again_is_refused(running):
    running.update(*running.example)
    running.before = running.content
    assert running.refuses(*running.example) == 409


def test_an_update_that_does_nothing_is_no_change(running):
    running.update()
    assert running.content == running.before


def test_one_bad_operation_undoes_all(running):
    for bad, status in [
        (("CREATE", [10**6, 1, 2, -1, -1]), 404),
        (("MODIFY", [10**6, 1, 2]), 404),
        (("CREATE", [running.payloads["p5", 1], 1, 2, 1, 1]), 400),
        (running.create("p5", 1, 0, 1, 0, 5), 409),
        (running.close("p3", 1, 1, 5), 409),
    ]:
        assert running.refuses(*running.example, bad) == status


@pytest.mark.parametrize(
    "operations",
    [
        lambda tag: [tag.create("p3", 2, 1, 0, -1, -1)],  # overlaps the run 1/0 of what is there
        lambda tag: [tag.create("p1", 3, 1, 1, -1, -1)],  # p1 revision 2 starts just there
        lambda tag: [tag.create("p3", 2, 1, 1, -1, -1)],  # another name starts there: the run was decided
        lambda tag: [tag.close("p2", 1, 1, 0)],
        lambda tag: [tag.close("p5", 1, 0, 5)],
        lambda tag: [tag.create("p2", 2, 1, 5, -1, -1)],  # the one before is still open
        lambda tag: [tag.close("p2", 1, 1, 4), tag.create("p2", 2, 1, 4, -1, -1)],
        lambda tag: [tag.create("p3", 1, 1, 2, 1, 9), tag.create("p3", 2, 1, 9, -1, -1)],
    ],
)
def test_the_past_is_not_changed_and_nothing_overlaps(running, operations):
    assert running.refuses(*operations(running)) == 409


def test_a_closed_iov_after_which_the_update_starts_must_have_ended(running):
    running.update(*running.example)
    running.before = running.content
    assert running.refuses(running.create("p1", 1, 1, 25, -1, -1), running.close("p5", 1, 1, 15)) == 409
    running.update(running.create("p1", 1, 1, 25, -1, -1), running.close("p5", 1, 1, 24))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b'[{"operation": "DELETE", "data": [1]}]',
        b'[{"operation": ["MODIFY"], "data": [1]}]',
        b'[{"operation": "MODIFY", "data": [1, 2]}]',
        b'[{"operation": "MODIFY", "data": [1, 2, "3"]}]',
        b'[{"operation": "MODIFY", "data": [1, 2, true]}]',
        b'[{"operation": "MODIFY", "data": [100000000000000000000, 2, 3]}]',
        b'[{"operation": "CREATE", "data": [1, 2, 3, 4]}]',
        b'[{"operation": "CREATE", "data": [1, 5, 0, 4, 0]}]',
        b'[{"operation": "CREATE"}]',
        b"<html>not JSON</html>",
    ],
)
def test_a_malformed_update_is_refused(running, body):
    with pytest.raises(RefusedError) as caught:
        running.client.ask("POST", f"/globalTagPayload/{running.name}/updateRunningPayloads", data=body)
    assert caught.value.status == 400
    assert running.content == running.before


def test_a_link_is_closed_once_and_for_good(running):
    assert running.refuses(running.close("p2", 1, 1, 4), running.close("p2", 1, 1, 5)) == 400
    assert running.refuses(running.close("p2", 1, -1, -1)) == 400
    assert running.refuses(running.close("p2", 1, 0, 0)) == 400


def test_links_of_another_tag_are_out_of_reach(running, client):
    other = Running(client)
    assert running.refuses(other.close("p2", 1, 5, 0)) == 404
    assert other.content == other.before


def test_only_a_running_tag_is_updated(client):
    tag = client.create_tag("not_running")["globalTagId"]
    payload, link = client.fill(tag, "p1", b"open", 0, 0, -1, -1)
    for operations in ([("MODIFY", [link, 1, 0])], [("CREATE", [payload, 1, 0, 2, 0])]):
        with pytest.raises(RefusedError) as caught:
            client.update_running("not_running", *operations)
        assert caught.value.status == 409
    with pytest.raises(RefusedError) as caught:
        client.update_running("was_never_made")
    assert caught.value.status == 404


def test_the_log_tells_of_the_update_as_of_a_plan(running, directory, url):
    running.update(*running.example)
    line = EmbeddedConditionsDB(directory, url=url).audit(running.name)[-1]
    document = json.loads(json.loads(line.detail)["document"])
    assert document["hash"] == line.plan_hash
    assert document["first_run"] == [1, 2]
    assert len(document["operations"]) == 7
