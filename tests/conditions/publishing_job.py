"""What a process does that publishes a bucket, from payload files to the running tag; asked again, it goes on."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from contracts.conditions_contract import ALWAYS, RECORD, RELEASE, bring

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.plans import PlanDocument
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov, UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.publisher import Publisher

FIRST_RUN, LATER = ExpRun(1, 0), ExpRun(1, 10)
WAY = (TagState.OPEN, TagState.TESTING, TagState.VALIDATED)


class PublishingJob:
    """The job of one bucket; its payload files and its plan are below ``root``.

    The first name had its first new content uploaded before, the last is not in the running tag before.

    Args:
        mark: ends the names of tags and payloads, so that one database can have the job many times.
    """

    def __init__(self, root: Path, *, names: int = 4, mark: str = "") -> None:
        self.root, self.mark = root, mark
        self.running, self.staging = f"running{mark}", f"staging{mark}"
        self.names = tuple(f"p{number}{mark}" for number in range(names))
        self.plan_file = root / f"plan{mark}.json"

    @property
    def old(self) -> list[LocalPayload]:
        """What is in the running tag before."""
        return [LocalPayload(name, self._file(name, "old"), ALWAYS) for name in self.names[:-1]]

    @property
    def new(self) -> list[LocalPayload]:
        """The bucket's payloads: two per name, the last one open."""
        whens = {"new": IoV(*FIRST_RUN, 1, 9), "newer": IoV(*LATER, -1, -1)}
        return [LocalPayload(name, self._file(name, when), iov) for name in self.names for when, iov in whens.items()]

    def write_files(self) -> None:
        """Write what was there before and what the calibration made."""
        for local in (*self.old, *self.new):
            local.file.write_text(local.file.stem)

    def prepare(self, conditions: ConditionsDB) -> None:
        """Make the running tag as it is before the bucket."""
        conditions.create_tag(self.running)
        conditions.replace_iovs(self.running, [local.name for local in self.old], self.old)
        bring(conditions, self.running, TagState.RUNNING)
        conditions.put_payload(self.new[0].name, self.new[0].file)

    def work(self, conditions: ConditionsDB) -> None:
        """Publish the bucket. What may have been done already is asked for again, and found to be done."""
        publisher = Publisher(conditions)
        _make_sure(lambda: conditions.create_tag(self.staging, "bucket 12"), lambda: True)
        if self._state(conditions) is TagState.OPEN:
            self._fill(conditions)
        for before, after in pairwise(WAY):
            self._bring(conditions, before, after)
        plan = self._plan(publisher)
        if not any(record.line("approve") for record in publisher.history(self.running)):
            publisher.approve(plan, RELEASE)
        publisher.apply(plan, RELEASE)

    def links_of(self, conditions: ConditionsDB, tag: str) -> list[TagIov]:
        """The content of a tag, with names and without ids as in any other job."""
        return [
            TagIov(link.name.removesuffix(self.mark), link.revision, link.iov) for link in conditions.list_iovs(tag)
        ]

    def forget(self) -> None:
        """Remove the plan."""
        for left in (self.plan_file, self._incoming):
            left.unlink(missing_ok=True)

    @property
    def _incoming(self) -> Path:
        return self.plan_file.with_suffix(".incoming")

    def _file(self, name: str, when: str) -> Path:
        return self.root / f"{name.removesuffix(self.mark)} {when}.root"

    def _state(self, conditions: ConditionsDB) -> TagState:
        found = conditions.get_tag(self.staging)
        assert found is not None
        return found.state

    def _fill(self, conditions: ConditionsDB) -> None:
        links = conditions.replace_iovs(self.staging, self.names, self.new)
        known = conditions.payloads_of((link.name, link.revision) for link in links)
        conditions.record_provenance({(one.name, one.md5): RECORD for one in known.values()}, author="anna")

    def _bring(self, conditions: ConditionsDB, before: TagState, after: TagState) -> None:
        _make_sure(
            lambda: conditions.set_state(self.staging, expected=before, new=after),
            lambda: self._state(conditions) in WAY[WAY.index(after) :],
        )

    def _plan(self, publisher: Publisher) -> PlanDocument:
        if not self.plan_file.exists():
            plan = publisher.plan_update(self.running, self.staging, first_run=FIRST_RUN, mode=UpdateMode.strict)
            self._incoming.write_text(plan.to_json())
            self._incoming.replace(self.plan_file)
        return PlanDocument.from_json(self.plan_file.read_text())


def _make_sure(act: Callable[[], object], done: Callable[[], bool]) -> None:
    """Act; that it cannot be done is right where it is done."""
    try:
        act()
    except ConflictError:
        if not done():
            raise


class Reader:
    """Looks at the running tag while it is changed; it must be there as a whole before, or as a whole afterwards."""

    def __init__(self, conditions: ConditionsDB, job: PublishingJob) -> None:
        self._conditions, self._job = conditions, job
        self.looks = 0
        self.sees_new = False

    def begin(self) -> None:
        """Expect the state before."""
        self.sees_new = False

    def look(self) -> None:
        """Read once by listing and twice by look-up, files included."""
        self.looks += 1
        listed = {(link.name, link.iov) for link in self._conditions.list_iovs(self._job.running)}
        old = {(local.name, local.iov) for local in self._job.old}
        new = {(local.name, IoV(0, 0, 0, -1)) for local in self._job.old}
        new |= {(local.name, local.iov) for local in self._job.new}
        assert listed in (old, new), listed
        self._follow(new=listed == new)
        for run in (FIRST_RUN, LATER):
            self._look_up(run)

    def _look_up(self, run: ExpRun) -> None:
        found = self._conditions.resolve([self._job.running], run)
        texts = {name: self._conditions.payload_file(one.payload).read_text() for name, one in found.items()}
        old = {local.name: local.file.stem for local in self._job.old}
        new = {local.name: local.file.stem for local in self._job.new if local.iov.contains(run)}
        assert texts in (old, new), texts
        self._follow(new=texts == new)

    def _follow(self, *, new: bool) -> None:
        assert new or not self.sees_new, "what was published has gone again"
        self.sees_new = new
