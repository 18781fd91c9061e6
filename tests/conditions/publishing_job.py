"""What a process does that publishes a bucket, from payload files to the running tag; asked again, it goes on."""

from collections.abc import Iterable
from pathlib import Path

from contracts.conditions_contract import ALWAYS, RECORD, RELEASE, bring

from b2cal_core.payloads import LocalPayload, TagState
from b2cal_core.plans import PlanDocument
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.publisher import Publisher

NAMES = tuple(f"p{number}" for number in range(4))
NEW, TAKEN_OVER = "p3", "p0"
"""A name that the running tag does not have before, and one whose first content was uploaded before."""
FIRST_RUN = ExpRun(1, 0)


class PublishingJob:
    """The job of one bucket; its payload files and its plan are below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write_files(self) -> None:
        """Write what was there before and what the calibration made."""
        for name in NAMES:
            for when in ("old", "new", "newer"):
                (self.root / f"{name}_{when}.root").write_text(f"{name} {when}")

    def prepare(self, conditions: ConditionsDB) -> None:
        """Make the running tag as it is before the bucket."""
        conditions.create_tag("running")
        old = [LocalPayload(name, self.root / f"{name}_old.root", ALWAYS) for name in NAMES if name != NEW]
        conditions.replace_iovs("running", [local.name for local in old], old)
        bring(conditions, "running", TagState.RUNNING)
        conditions.put_payload(TAKEN_OVER, self.root / f"{TAKEN_OVER}_new.root")

    @property
    def payloads(self) -> list[LocalPayload]:
        """The bucket's payloads: two per name, the last one open."""
        whens = {"new": IoV(*FIRST_RUN, 1, 9), "newer": IoV(1, 10, -1, -1)}
        return [
            LocalPayload(name, self.root / f"{name}_{when}.root", iov) for name in NAMES for when, iov in whens.items()
        ]

    def work(self, conditions: ConditionsDB) -> None:
        """Publish the bucket."""
        publisher = Publisher(conditions)
        found = conditions.get_tag("staging") or conditions.create_tag("staging", "bucket 12")
        if found.state is TagState.OPEN:
            self._fill(conditions)
        if found.state in {TagState.OPEN, TagState.TESTING}:
            conditions.set_state("staging", expected=TagState.TESTING, new=TagState.VALIDATED)
        plan = self._plan(publisher)
        if not any(record.line("approve") for record in publisher.history("running")):
            publisher.approve(plan, RELEASE)
        publisher.apply(plan, RELEASE)

    def _fill(self, conditions: ConditionsDB) -> None:
        links = conditions.replace_iovs("staging", NAMES, self.payloads)
        known = conditions.payloads_of((link.name, link.revision) for link in links)
        conditions.record_provenance({(one.name, one.md5): RECORD for one in known.values()}, author="anna")
        conditions.set_state("staging", expected=TagState.OPEN, new=TagState.TESTING)

    def _plan(self, publisher: Publisher) -> PlanDocument:
        file, incoming = self.root / "plan.json", self.root / "plan.json.incoming"
        if not file.exists():
            plan = publisher.plan_update("running", "staging", first_run=FIRST_RUN, mode=UpdateMode.strict)
            incoming.write_text(plan.to_json())
            incoming.replace(file)
        return PlanDocument.from_json(file.read_text())

    def forget(self) -> None:
        """Remove what the job left besides the database."""
        for left in ("plan.json", "plan.json.incoming", "diary"):
            (self.root / left).unlink(missing_ok=True)


class Reader:
    """Looks at the running tag while it is changed; it must be there as a whole before, or as a whole afterwards."""

    def __init__(self, conditions: ConditionsDB) -> None:
        self._conditions = conditions
        self.looks = 0
        self.sees_new = False

    def begin(self) -> None:
        """Expect the state before."""
        self.sees_new = False

    def look(self) -> None:
        """Read once by listing and twice by look-up, files included."""
        self.looks += 1
        listed = {(link.name, str(link.iov)) for link in self._conditions.list_iovs("running")}
        assert listed in (_listed(new=False), _listed(new=True)), listed
        self._follow(new=listed == _listed(new=True))
        for run, when in ((FIRST_RUN, "new"), (ExpRun(1, 10), "newer")):
            found = self._conditions.resolve(["running"], run)
            texts = {name: self._conditions.payload_file(one.payload).read_text() for name, one in found.items()}
            old = {name: f"{name} old" for name in NAMES if name != NEW}
            new = {name: f"{name} {when}" for name in NAMES}
            assert texts in (old, new), texts
            self._follow(new=texts == new)

    def _follow(self, *, new: bool) -> None:
        assert new or not self.sees_new, "what was published has gone again"
        self.sees_new = new


def _listed(*, new: bool) -> set[tuple[str, str]]:
    if not new:
        return {(name, str(ALWAYS)) for name in NAMES if name != NEW}
    closed = {(name, "0,0,0,-1") for name in NAMES if name != NEW}
    return closed | {(name, where) for name in NAMES for where in ("1,0,1,9", "1,10,-1,-1")}


def actions(conditions: ConditionsDB, leaving_out: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """What the audit log tells, without times, ids, and these actions."""
    return [
        (line.action, line.tag, line.author, line.approver, line.reason)
        for line in conditions.audit()
        if line.action not in leaving_out
    ]
