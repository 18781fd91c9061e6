"""What every sign-off log, and every fake of one, must do."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from b2cal_core.data_shortage import ShortageChoice
from b2cal_core.errors import DataError
from b2cal_core.ports import SignOffLog
from b2cal_core.redo import Redo
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import Decision, SignOff

ACCEPTED = SignOff(
    campaign="prompt",
    bucket="e0012r00001-e0012r00020",
    calibration="CDC Tracking",
    decision=Decision.accepted,
    author="rule:all_pass",
    reason="all 5 figures pass",
    evidence="ab" * 32,
    when=datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC),
)


class SignOffLogContract:
    @pytest.fixture
    def log(self) -> Iterator[SignOffLog]:
        raise NotImplementedError

    def test_a_new_log_holds_nothing(self, log: SignOffLog) -> None:
        assert log.decisions("prompt") == ()

    def test_a_decision_comes_back_as_it_was_logged(self, log: SignOffLog) -> None:
        log.record(ACCEPTED)
        assert log.decisions("prompt") == (ACCEPTED,)

    def test_waivers_redos_and_deputies_come_back_as_they_were_logged(self, log: SignOffLog) -> None:
        end = ACCEPTED.when + timedelta(days=30)
        waived = replace(ACCEPTED, decision=Decision.waived, author="bob", deputy_of="ada", until=end, figure="pull")
        redo = Redo(expert_config={"minimum": [1, "é"]}, excluded_runs=((12, 3),), boundaries=(), anew=True)
        rejected = replace(ACCEPTED, decision=Decision.rejected, author="mia", redo=redo)
        log.record(waived)
        log.record(rejected)
        assert log.decisions("prompt") == (waived, rejected)

    def test_the_end_of_a_waiver_has_a_zone(self, log: SignOffLog) -> None:
        end = datetime(2026, 1, 1)  # noqa: DTZ001 (it is the point)
        with pytest.raises(DataError, match=r"the end of the waiver .*time zone"):
            log.record(replace(ACCEPTED, decision=Decision.waived, until=end))
        assert log.decisions("prompt") == ()

    def test_decisions_stay_in_the_order_they_were_logged_whatever_their_time(self, log: SignOffLog) -> None:
        earlier = replace(ACCEPTED, decision=Decision.rejected, author="mia", when=datetime(2020, 1, 1, tzinfo=UTC))
        log.record(ACCEPTED)
        log.record(earlier)
        log.record(ACCEPTED)
        assert log.decisions("prompt") == (ACCEPTED, earlier, ACCEPTED)

    def test_decisions_are_found_by_bucket_and_calibration(self, log: SignOffLog) -> None:
        other_bucket = replace(ACCEPTED, bucket="e0012r00021-e0012r00040")
        other_calibration = replace(ACCEPTED, calibration="TOP")
        other_campaign = replace(ACCEPTED, campaign="proc13")
        for decision in (ACCEPTED, other_bucket, other_calibration, other_campaign):
            log.record(decision)
        assert log.decisions("prompt", ACCEPTED.bucket) == (ACCEPTED, other_calibration)
        assert log.decisions("prompt", ACCEPTED.bucket, "TOP") == (other_calibration,)
        assert log.decisions("prompt", calibration="CDC Tracking") == (ACCEPTED, other_bucket)
        assert log.decisions("proc13") == (other_campaign,)

    def test_a_time_without_zone_is_refused(self, log: SignOffLog) -> None:
        with pytest.raises(DataError, match="time zone"):
            log.record(replace(ACCEPTED, when=datetime(2026, 1, 1)))  # noqa: DTZ001 (it is the point)
        assert log.decisions("prompt") == ()

    def test_what_was_chosen_for_a_lack_of_data_comes_back_by_bucket_in_order(self, log: SignOffLog) -> None:
        subject = (ACCEPTED.campaign, ACCEPTED.bucket, ACCEPTED.calibration)
        first = ShortageChoice(*subject, Remedy.merge, "rule:not_enough_data", "too few é", ACCEPTED.when)
        second = replace(first, remedy=Remedy.reuse, author="ada", when=datetime(2020, 1, 1, tzinfo=UTC))
        elsewhere = replace(first, bucket="e0012r00021-e0012r00040")
        for choice in (first, elsewhere, second):
            log.choose(choice)
        assert log.choices("prompt", ACCEPTED.bucket) == (first, second)
        assert log.choices("other", ACCEPTED.bucket) == ()
        assert log.decisions("prompt") == ()

    def test_what_was_logged_since_a_mark_is_told_once_by_campaign_and_bucket(self, log: SignOffLog) -> None:
        nothing, start = log.logged_since()
        assert nothing == frozenset()
        other = replace(ACCEPTED, campaign="proc13", bucket="e0012r00021-e0012r00040")
        for decision in (ACCEPTED, ACCEPTED, other):
            log.record(decision)
        found, mark = log.logged_since(start)
        assert found == {("prompt", ACCEPTED.bucket), ("proc13", other.bucket)}
        subject = (ACCEPTED.campaign, ACCEPTED.bucket, ACCEPTED.calibration)
        log.choose(ShortageChoice(*subject, Remedy.merge, "ada", "too few", ACCEPTED.when))
        assert log.logged_since(mark)[0] == {("prompt", ACCEPTED.bucket)}
        assert log.logged_since(log.logged_since(mark)[1])[0] == frozenset()
