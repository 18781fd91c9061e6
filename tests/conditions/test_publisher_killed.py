"""A publisher that is killed at any request: readers see all or nothing, and it goes on where it was."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from contracts.conditions_contract import RELEASE
from kept_database import KeptDatabase, rows_of
from killed_processes import BACKEND_FAILED, DONE, KillAt, StopAt, ended, in_child, tell_requests, watched
from publishing_job import PublishingJob, Reader
from servers.mariadb import MariaDBServer

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import broken_link
from b2cal_core.plans import PlanDocument
from resources.conditions.book import utc_now
from resources.conditions.publisher import Publisher

UPLOADING = "write payload file"
Tell = Callable[[str], None]


class Scene:
    """A database that is ready for the job, and what the job makes of it when nobody disturbs it.

    The processes are forks of this one and find all SQL compiled; that is quick, and all that they have in common.
    """

    def __init__(self, database: KeptDatabase) -> None:
        self.database, self.job = database, PublishingJob(database.root, names=6)
        self.diary = database.root / "diary"
        self.job.write_files()
        self.job.prepare(database.open())
        database.keep()
        self.points: list[str] = []
        self.tell: Tell = self.points.append
        self.conditions = tell_requests(database.open(on_step=self.step), lambda point: self.tell(point))  # noqa: PLW0108 (who is told changes)
        self.job.work(self.conditions)
        self.observer = database.open()
        self.reader = Reader(self.observer, self.job)
        self.expected, self.log, self.files = self.outcome(), self.logged(), self.complete_files()

    @property
    def killing(self) -> list[int]:
        """Where to kill: everywhere, but on a server, which is slower, at the first only of reads in a row."""
        reads = [point.startswith("SELECT") for point in self.points]
        everywhere = range(len(self.points))
        if self.database.url is None:
            return list(everywhere)
        return [point for point in everywhere if not (point and reads[point] and reads[point - 1])]

    def step(self, name: str) -> None:
        """Tell of a step; uploads go to the diary besides."""
        self.tell(name)
        if name == UPLOADING:
            with self.diary.open("a") as diary:
                diary.write("x")

    def begin(self) -> None:
        """Bring everything back to before the job."""
        self.database.restore()
        self.job.forget()
        self.diary.unlink(missing_ok=True)
        self.reader.begin()

    def start(self, tell: Tell) -> int:
        """Start the job in a process of its own, which tells of its requests; returns the id of the process."""
        self.diary.unlink(missing_ok=True)

        def work() -> None:
            self.tell = tell
            os.fsync = _no_sync
            self.job.work(self.conditions)

        return in_child(work)

    def resume(self) -> None:
        """The same job again in a new process, looked at all the while; then all is as if nothing had happened."""
        before = self.complete_files()
        assert watched(self.start(_silent), self.reader.look) == DONE
        assert self.reader.sees_new
        assert self.outcome() == self.expected
        assert self.logged() == self.log
        assert broken_link(self.observer.audit()) is None
        assert self.complete_files() == self.files
        uploads = len(self.diary.read_text()) if self.diary.exists() else 0
        assert uploads == len(self.files - before), "a file that was in place was uploaded again"

    def outcome(self) -> dict[str, object]:
        """All there is afterwards, apart from times, ids and the log."""
        tags, rows = self.observer.list_tags(), rows_of(self.observer.database)
        names = {row["id"]: row["name"] for row in rows["cdb_names"]}
        links = {tag.name: self.observer.list_iovs(tag.name) for tag in tags}
        return {
            "tags": [(tag, self.observer.fingerprint(tag.name)) for tag in tags],
            "links": [(tag, link.name, link.revision, link.iov) for tag in links for link in links[tag]],
            "revisions": sorted((row["name"], row["last_revision"]) for row in rows["cdb_names"]),
            "payloads": sorted((names[row["name_id"]], row["revision"], row["sha256"]) for row in rows["cdb_payloads"]),
            "numbers": {name: len(found) for name, found in rows.items() if name != "cdb_audit"},
        }

    def logged(self) -> list[tuple[str, ...]]:
        """The audit log."""
        return [(line.action, line.tag, line.author, line.approver, line.reason) for line in self.observer.audit()]

    def complete_files(self) -> set[Path]:
        """The payload files in place."""
        return {file for file in self.database.payload_files() if not file.name.startswith(".")}


def _no_sync(_descriptor: int) -> None:
    """What a process wrote outlives it without."""


def _silent(_point: str) -> None:
    """Tell nobody."""


@pytest.fixture
def scene(database: KeptDatabase) -> Scene:
    return Scene(database)


def test_a_publisher_killed_at_any_request_leaves_no_partial_set_and_goes_on(scene: Scene) -> None:
    for number, point in enumerate(scene.killing):
        scene.begin()
        assert watched(scene.start(KillAt(point)), scene.reader.look) == -signal.SIGKILL
        scene.resume()
        assert scene.reader.looks >= 2 * (number + 1)
    assert len(scene.killing) >= 100


def test_a_server_killed_under_a_publisher_leaves_no_partial_set_and_the_publisher_goes_on(
    mariadb: MariaDBServer, tmp_path: Path
) -> None:
    scene = Scene(KeptDatabase(tmp_path, mariadb.new_database()))
    commits = [number for number, point in enumerate(scene.points) if point == "COMMIT"]
    applied = scene.points.index("open IoVs closed"), scene.points.index("new IoVs created")
    for point in (*commits[::2], *applied, *(number + 1 for number in commits[-4:-1])):
        scene.begin()
        stop = StopAt(point)
        child = scene.start(stop)
        stop.wait()
        mariadb.kill()
        stop.free()
        assert ended(child) == BACKEND_FAILED, scene.points[point]
        mariadb.restart()
        scene.reader.look()
        scene.resume()
    assert len(commits) >= 8


def test_another_plan_waits_for_a_publisher_that_was_killed_until_its_lease_has_run_out(scene: Scene) -> None:
    scene.begin()
    assert ended(scene.start(KillAt(scene.points.index("open IoVs closed")))) == -signal.SIGKILL
    plan = PlanDocument.from_json(scene.job.plan_file.read_text())
    other = replace(plan, purpose="the same for another reason")
    with pytest.raises(ConflictError, match=f"is being changed by plan {plan.hash}"):
        Publisher(scene.observer).apply(other, RELEASE)
    assert scene.observer.fingerprint("running") == plan.fingerprint
    later = scene.database.open(clock=lambda: utc_now() + timedelta(minutes=10))
    Publisher(later).apply(other, RELEASE)
    assert scene.outcome() == scene.expected
    with pytest.raises(ConflictError, match="running was changed"):
        Publisher(later).apply(plan, RELEASE)
