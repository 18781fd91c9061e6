"""A job that runs again with its stored snapshot."""

import pytest
from published_tags import FIRST, RELEASE, in_the_manner_of

from b2cal_core.errors import ConflictError
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.snapshots import Snapshot, resolve_in
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.snapshotting import take_snapshot


@pytest.mark.usefixtures("prompt")
def test_a_job_that_runs_again_with_its_snapshot_sees_the_same_payloads_though_tags_moved(
    conditions, publisher, make
) -> None:
    make("local", [("p2", "local", "1,0,1,20"), ("q", "q", "0,0,-1,-1")])
    chain = ["prompt", "local"]
    stored = take_snapshot(conditions, chain).to_json()
    runs = [ExpRun(0, 5), ExpRun(1, 10), ExpRun(1, 21), ExpRun(3, 0)]
    then = {run: _contents(conditions.resolve(chain, run)) for run in runs}
    publisher.apply(publisher.plan_update("prompt", "staging", first_run=FIRST), RELEASE)
    publisher.apply(publisher.plan_close("local", ExpRun(1, 5), names=["p2", "q"]), RELEASE)
    again = Snapshot.from_json(stored)
    assert {run: _contents(resolve_in(again, run)) for run in runs} == then
    assert _contents(conditions.resolve(chain, FIRST)) != then[FIRST]


def _contents(answers) -> set[tuple[str, str, str, str]]:
    return {(name, found.payload.md5, str(found.iov), found.tag) for name, found in answers.items()}


@pytest.mark.usefixtures("prompt")
def test_a_snapshot_of_tags_that_keep_changing_is_refused(conditions, make) -> None:
    class Restless(EmbeddedConditionsDB):
        def list_iovs(self, tag, within=None, *, as_of=None):
            found = super().list_iovs(tag, within, as_of=as_of)
            later = len(self.list_tags()) + len(self.audit("open"))
            self.add_iovs("open", [TagIov("p", 1, IoV(later, 0, later, 0))])
            return found

    make("open", [("p", "one", "1,0,1,0")])
    restless = in_the_manner_of(Restless, conditions)
    with pytest.raises(ConflictError, match="the tags prompt, open kept changing"):
        take_snapshot(restless, ["prompt", "open"])
