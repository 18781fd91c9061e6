"""A publisher that works over HTTP and is killed at any request to the server, or whose server is killed."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
from contracts.conditions_contract import RECORD
from killed_processes import BACKEND_FAILED, DONE, KillAt, StopAt, ended, in_child, tell_commits, watched
from publishing_job import PublishingJob, Reader
from servers.conditions_server import ConditionsServer
from servers.rest_world import keep_token

from b2cal_core.payloads import broken_link
from resources.conditions.book import Book
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.rest.adapter import RestConditionsDB
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.tokens import TokenFile

Tell = Callable[[str], None]


class Stage:
    """A server in a process of its own, the database behind it, and what its clients share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.truth = EmbeddedConditionsDB(root / "conditions")
        self.server = ConditionsServer(root / "conditions")
        keep_token(root / "token", self.server.token("anna"))
        self.book = self.open_book(lambda _point: None)
        self.jobs = 0

    def open_book(self, tell: Tell) -> Book:
        """The record that the clients keep."""
        database = Database(sa.URL.create("sqlite", database=str(self.root / "book.db")), create=True)
        tell_commits(database.engine, tell)
        return Book(database, author="anna")

    def new_job(self) -> "Performance":
        """The job once more, with tags and payload names of its own."""
        self.jobs += 1
        return Performance(self, PublishingJob(self.root, names=2, mark=f"-{self.jobs}"))


class Performance:
    """The job on the stage."""

    def __init__(self, stage: Stage, job: PublishingJob) -> None:
        self.stage, self.job = stage, job
        self.diary = stage.root / f"diary{job.mark}"
        self.reader = Reader(stage.truth, job)
        job.write_files()
        job.prepare(stage.truth)

    def work(self, tell: Tell) -> None:
        """The whole job in a process that just started.

        It tells of every request before it is sent, of every reply to a change before anybody hears of it, and of every
        line that its own record is to get; uploads that were made go to the diary.
        """
        send = requests.Session.send

        def told(session: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
            path = request.path_url.split("?")[0]
            tell(f"{request.method} {path}")
            reply = send(session, request, **options)
            if path.endswith("/payload"):
                with self.diary.open("a") as diary:
                    diary.write("x")
            if request.method not in {"GET", "HEAD"} and not path.endswith("checkPayloads"):
                tell(f"reply to {request.method} {path}")
            return reply

        requests.Session.send = told  # of this process, which does nothing else
        self.job.work(self._client(self.stage.open_book(tell)))

    def _client(self, book: Book) -> RestConditionsDB:
        root = self.stage.root
        return RestConditionsDB(
            self.stage.server.url,
            book=book,
            cache=root / f"cache{self.job.mark}",
            token=TokenFile(root / "token"),
            user="anna",
            timeout=(5.0, 20.0),
            patience=Patience(attempts=2, sleep=lambda _seconds: None),
        )

    def start(self, tell: Tell) -> int:
        """Start the job in a process of its own and return its id."""
        return in_child(lambda: self.work(tell))

    def resume(self) -> dict[str, object]:
        """The job again, looked at all the while; returns what became of it."""
        assert watched(self.start(lambda _point: None), self.reader.look) == DONE
        assert self.reader.sees_new
        return self.outcome()

    def outcome(self) -> dict[str, object]:
        """All there is afterwards, with the names of any other job."""
        truth, job, book = self.stage.truth, self.job, self.stage.book
        tags = [truth.get_tag(tag) for tag in (job.running, job.staging)]
        payloads = truth.payloads_of((name, revision) for name in job.names for revision in range(1, 9))
        keys = [(payload.name, payload.md5) for payload in payloads.values()]
        lines = [line for tag in (job.running, job.staging) for line in book.audit(tag)]
        return {
            "tags": [(tag.state, tag.description) for tag in tags if tag],
            "links": [job.links_of(truth, tag) for tag in (job.running, job.staging)],
            "payloads": Counter(payload.name.removesuffix(job.mark) for payload in payloads.values()),
            "contents": {(payload.name.removesuffix(job.mark), payload.sha256) for payload in payloads.values()},
            "vouched": [record == RECORD for record in book.provenance(keys).values()],
            "uploads": len(self.diary.read_text()),
            "log": [  # the journal and the verification say how often a process was deprived of its end
                (line.action, line.author, line.approver, line.reason)
                for line in lines
                if line.action not in {"begin", "verify"}
            ],
        }


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.server.kill()
    stage.truth.engine.dispose()


def undisturbed(stage: Stage) -> tuple[list[str], dict[str, object]]:
    """The points of the job, and what becomes of it when nobody kills anything."""
    performance, points = stage.new_job(), stage.root / "points"

    def note(point: str) -> None:
        with points.open("a") as file:
            file.write(f"{point}\n")

    assert ended(performance.start(note)) == DONE
    return points.read_text().splitlines(), performance.outcome()


def test_a_client_killed_at_any_request_leaves_no_partial_set_and_goes_on(stage: Stage) -> None:
    points, expected = undisturbed(stage)
    for point, name in enumerate(points):
        performance = stage.new_job()
        assert watched(performance.start(KillAt(point)), performance.reader.look) == -signal.SIGKILL
        assert performance.resume() == expected, name
    assert broken_link(stage.book.audit()) is None
    assert len(points) >= 100


def test_a_server_killed_under_a_client_leaves_no_partial_set_and_the_client_goes_on(stage: Stage) -> None:
    points, expected = undisturbed(stage)
    changes = [point for point, name in enumerate(points) if name.startswith(("POST", "PUT", "DELETE"))]
    for point in changes[:: len(changes) // 8]:
        performance, stop = stage.new_job(), StopAt(point)
        child = performance.start(stop)
        stop.wait()
        stage.server.kill()
        stop.free()
        assert ended(child) == BACKEND_FAILED, points[point]
        performance.reader.look()
        stage.server.restart()
        assert performance.resume() == expected, points[point]
