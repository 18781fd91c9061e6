"""The sensor of notices and tickets: each thing is told once, also when what is asked fails or the tick is killed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, FakeCaf, FakeValidation, Laboratory, payload_names, run_record
from servers.fake_gitlab import PROJECT, FakeGitLab
from servers.fake_notifier import FakeNotifier
from servers.faults import answering

from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.workshop import Correspondence
from b2cal_core.data_shortage import ShortageChoice
from b2cal_core.notices import Notice, NoticeKind, People, Person
from b2cal_core.ports import Channel
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import Decision, SignOff
from resources.notify.book import EmbeddedNoticeBook
from resources.notify.channel import AppriseNotifier
from resources.secret_values import Secret
from resources.tickets.gitlab_issues import GitLabTickets
from sensors.gates import ATTEMPTS, SITUATION_TAG
from sensors.notices import notices_sensor

MANAGER = "manager@example.org"
SMALL: Mapping[str, Any] = {"calibrations": ["CDC Tracking", "SVD time"]}


class Killed(BaseException):
    """Stands for SIGKILL: nothing that handles errors handles it."""


class DyingBook(EmbeddedNoticeBook):
    """A book in whose process the kill comes: before or after one of its writes."""

    def __init__(self, url: str, *, at: int) -> None:
        super().__init__(url)
        self._left = at

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in {"begin", "told", "keep_ticket", "settle"}:
            return found

        def dying(*args: Any) -> Any:
            self._step()
            answer = found(*args)
            self._step()
            return answer

        return dying

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed


class Office:
    """What the people of a laboratory are told with."""

    def __init__(self, lab: Laboratory, gitlab: FakeGitLab, url: str | None = None) -> None:
        self.lab, self.gitlab = lab, gitlab
        self.chat, self.mail = FakeNotifier(), FakeNotifier()
        self.url = url or lab.home.registry_url
        self.now = datetime.now(UTC)

    def correspondence(self, **changes: Any) -> Correspondence:
        urgent = frozenset(kind for kind in NoticeKind if kind.is_urgent)
        whole = Correspondence(
            {"chat": Channel(self.chat), "mail": Channel(self.mail, urgent)},
            EmbeddedNoticeBook(self.url),
            People([Person("manager@example.org", "manager@example.org", "mia")]),
            GitLabTickets(self.gitlab.url, PROJECT, Secret("env:GITLAB_TOKEN_OF_THE_TESTS", "the token")),
            "http://127.0.0.1:3000",
        )
        return replace(whole, **changes)

    def tick(self, *, seconds: float = 600.0, **changes: Any) -> str:
        """One evaluation of the sensor; what it says."""
        return self.evaluate(notices_sensor([self.lab.plan], seconds=seconds, clock=lambda: self.now), **changes)

    def evaluate(self, sensor: dg.SensorDefinition, **changes: Any) -> str:
        """The same, of a sensor that may have been evaluated before."""
        workshop = replace(self.lab.workshop(), correspondence=lambda: self.correspondence(**changes))
        with dg.build_sensor_context(instance=self.lab.instance, resources={"workshop": workshop}) as context:
            answer = sensor(context)
        assert isinstance(answer, dg.SkipReason)
        return str(answer.skip_message)

    def states(self) -> dict[str, tuple[str, str]]:
        """Title of an issue, as it begins, to its state label and whether it is open."""
        return {
            issue.title.partition(",")[0].partition(" of ")[0]: (
                next(label.removeprefix("b2cal::") for label in issue.labels if label.startswith("b2cal::")),
                issue.state,
            )
            for issue in self.gitlab.issues
        }


@pytest.fixture
def office(laboratory: Callable[..., Laboratory], gitlab: FakeGitLab) -> Callable[..., Office]:
    """Makes the office of a laboratory with one closed bucket."""

    def make(**choices: Any) -> Office:
        lab = laboratory(runs=4, **{"campaign": SMALL, **choices})
        lab.book(BUCKET_1)
        return Office(lab, gitlab)

    return make


def work(office: Office, **choices: Any) -> None:
    BucketRunner(office.lab.plan, office.lab.workshop(), instance=office.lab.instance).work(BUCKET_1, **choices)


def decide(office: Office, calibration: str, decision: Decision) -> None:
    lab = office.lab
    payloads = BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs).payloads(calibration)
    assert payloads is not None
    lab.sign_offs.record(
        SignOff("prompt", BUCKET_1.key, calibration, decision, "ada", "because", payloads.content, datetime.now(UTC))
    )


def test_an_account_that_nobody_has_is_said_once(office: Callable[..., Office]) -> None:
    at = office()
    people = People([Person("ada", gitlab="adda"), Person(MANAGER, gitlab="mia")])
    sensor = notices_sensor([at.lab.plan], seconds=600.0, clock=lambda: at.now)
    said = [at.evaluate(sensor, people=people)]
    work(at, only=["CDC Tracking"])
    said.append(at.evaluate(sensor, people=people))
    assert [one.count("nobody has the account 'adda'") for one in said] == [1, 0]
    assert "tickets brought up to date" in said[1]
    assert {tuple(issue.assignees) for issue in at.gitlab.issues} == {("mia",), ()}


def test_a_closed_bucket_gets_its_tickets_and_its_owner_hears_of_it_once(office: Callable[..., Office]) -> None:
    at = office()
    assert at.tick() == "1 notices told, 4 tickets brought up to date"
    assert at.chat.told() == [("bucket_closed", (MANAGER,))]
    assert at.states() == {
        f"Bucket {BUCKET_1.key}": ("waiting", "opened"),
        "CDC Tracking": ("waiting", "opened"),
        "SVD time": ("waiting", "opened"),
    }
    parent, *children = at.gitlab.issues
    assert [child.links for child in children] == [[parent.iid], [parent.iid]]
    assert [child.assignees for child in children] == [["ada"], ["ada"]]
    assert parent.assignees == ["mia"]
    assert all(f"/-/issues/{child.iid}" in parent.description for child in children)
    at.gitlab.faults.reset()
    assert at.tick() == "0 notices told, 0 tickets brought up to date"
    assert at.gitlab.faults.requests == []


def test_a_result_that_needs_its_expert_is_followed_until_it_is_published(office: Callable[..., Office]) -> None:
    at = office(validation=FakeValidation({"val_svd": 3.0}))
    at.tick()
    work(at)
    at.chat.told()
    at.tick()
    assert at.chat.told() == [("needs_sign_off", ("ada",))]
    assert at.states()["SVD time"] == ("needs sign-off", "opened")
    assert at.states()["CDC Tracking"] == ("accepted", "closed")
    ticket = at.gitlab.issues[2]
    for shown in ("| pull | 3 |", "SVDTimes", "before_after.png", "b2cal signoff accept|reject", "**Verdict: warn**"):
        assert shown in ticket.description
    assert f"http://127.0.0.1:3000/assets/prompt/svd_time/validation?partition={BUCKET_1.key}" in ticket.description
    assert len(ticket.notes) == 1
    decide(at, "SVD time", Decision.accepted)
    at.tick()
    assert at.states()["SVD time"] == ("accepted", "closed")
    assert at.states()[f"Bucket {BUCKET_1.key}"] == ("accepted", "opened")
    work(at)
    at.tick()
    assert at.chat.told() == [("published", (MANAGER,))]
    assert set(at.states().values()) == {("published", "closed")}
    at.gitlab.faults.reset()
    assert at.tick() == "0 notices told, 0 tickets brought up to date"
    assert at.gitlab.faults.requests == []


def test_a_failure_reaches_the_expert_the_owner_and_the_channel_for_what_is_urgent(
    office: Callable[..., Office],
) -> None:
    at = office(caf=FakeCaf(payload_names(), broken={"caf_cdc": "CDC: not enough data, take more runs"}))
    work(at)
    at.tick()
    assert at.chat.told() == [
        ("bucket_closed", (MANAGER,)),
        ("failed", ("ada",)),
        ("blocked", (MANAGER, "ada")),
    ]
    assert "not enough data, take more runs" in at.mail.notices[0].text
    assert [kind for kind, _ in at.mail.told()] == ["failed", "blocked"]
    assert at.states()["CDC Tracking"] == ("failed", "opened")
    assert "not enough data, take more runs" in at.gitlab.issues[1].description
    work(at)
    at.tick()
    assert [kind for kind, _ in at.chat.told()] == ["failed"]  # another attempt, stopped by the same cause


def test_who_must_choose_what_is_done_about_too_few_data_is_asked_and_reminded(office: Callable[..., Office]) -> None:
    at = office(caf=FakeCaf(payload_names(), hungry={"caf_cdc": 5}))
    work(at)
    at.tick()
    assert at.chat.told() == [
        ("bucket_closed", (MANAGER,)),
        ("not_enough_data", ("ada",)),
        ("blocked", (MANAGER, "ada")),
    ]
    command = f"b2cal bucket data prompt {BUCKET_1.key} cdc_tracking merge|extend|reuse"
    assert command in at.mail.notices[0].text
    assert at.states()["CDC Tracking"] == at.states()[f"Bucket {BUCKET_1.key}"] == ("needs a choice", "opened")
    assert command in at.gitlab.issues[1].description
    at.now += timedelta(hours=25)
    at.tick()
    assert at.chat.told() == [("reminder", ("ada",))]
    choice = ShortageChoice("prompt", BUCKET_1.key, "CDC Tracking", Remedy.reuse, "ada", "seen", datetime.now(UTC))
    at.lab.sign_offs.choose(choice)
    at.tick()
    assert at.states()["CDC Tracking"] == ("waiting", "opened")


def test_the_owner_is_warned_once_when_the_bucket_that_is_filling_will_not_have_the_events_that_are_wanted(
    office: Callable[..., Office],
) -> None:
    at = office(campaign={**SMALL, "wanted_events": {"caf_cdc": 10**9, "caf_svd": 1}})
    at.tick()
    at.chat.told()
    at.lab.registry.add(run_record(run) for run in range(5, 10))  # a full bucket, and the first run of the next
    at.tick()
    assert at.chat.told() == []
    at.lab.registry.add(run_record(run) for run in range(10, 12))
    at.tick()
    assert [notice.title for notice in at.chat.notices] == [
        "[prompt] CDC Tracking will not have enough events in the bucket that is filling"
    ]
    assert at.chat.told() == [("too_few_events", (MANAGER,))]
    at.lab.book(BUCKET_2)  # it is the same bucket that is filling
    at.tick()
    assert at.chat.told() == [("bucket_closed", (MANAGER,))]


def test_a_rejection_is_told_and_reopens_what_waited(office: Callable[..., Office]) -> None:
    at = office(validation=FakeValidation({"val_svd": 3.0}))
    work(at)
    at.tick()
    at.chat.told()
    decide(at, "SVD time", Decision.rejected)
    at.tick()
    assert [kind for kind, _ in at.chat.told()] == ["rejected", "blocked"]
    assert at.states()["SVD time"] == ("rejected", "opened")


def test_who_does_not_answer_is_reminded_and_later_others_are(office: Callable[..., Office]) -> None:
    at = office(validation=FakeValidation({"val_svd": 3.0}))
    work(at)
    at.tick()
    at.chat.told()
    at.now += timedelta(hours=25)
    at.tick()
    assert at.chat.told() == [("reminder", ("ada",))]
    at.now += timedelta(days=9)
    at.tick()
    assert at.chat.told() == [("reminder", (MANAGER,))]
    at.tick()
    assert at.chat.told() == []


def test_a_gitlab_that_is_down_is_said_and_caught_up_with(office: Callable[..., Office]) -> None:
    at = office()
    at.gitlab.stop()
    said = at.tick()
    assert said.startswith("1 notices told, 0 tickets brought up to date; GitLab at")
    assert "does not answer" in said
    at.gitlab.start()
    assert at.tick() == "0 notices told, 4 tickets brought up to date"


def test_a_channel_that_is_away_holds_up_no_other_and_is_tried_again_later(office: Callable[..., Office]) -> None:
    at = office(caf=FakeCaf(payload_names(), broken={"caf_cdc": "no"}))
    work(at)
    at.mail.is_away = True
    assert "the chat of the tests is away" in at.tick()
    assert len(at.chat.told()) == 3
    assert at.tick().startswith("0 notices told")  # too early
    at.mail.is_away = False
    at.now += timedelta(minutes=2)
    at.tick()
    assert [kind for kind, _ in at.mail.told()] == ["failed", "blocked"]
    assert at.chat.told() == []


def test_a_person_who_cannot_be_reached_holds_up_nobody_else(office: Callable[..., Office]) -> None:
    at = office(validation=FakeValidation({"val_svd": 3.0}))
    work(at)
    at.chat.unknown.add(MANAGER)
    assert f"of {MANAGER} no address is known" in at.tick()
    assert at.chat.told() == [("needs_sign_off", ("ada",))]
    at.chat.unknown.clear()
    at.now += timedelta(minutes=2)
    at.tick()
    assert at.chat.told() == [("bucket_closed", (MANAGER,))]


def test_who_is_told_on_their_own_hears_nothing_twice_because_of_others(office: Callable[..., Office]) -> None:
    at = office(caf=FakeCaf(payload_names(), broken={"caf_cdc": "no"}))
    work(at)
    at.mail = FakeNotifier(each=True)
    at.mail.unknown.add(MANAGER)
    at.tick()
    assert at.mail.told() == [("failed", ("ada",)), ("blocked", ("ada",))]
    at.mail.unknown.clear()
    at.now += timedelta(minutes=2)
    at.tick()
    assert at.mail.told() == [("blocked", (MANAGER,))]


def test_a_channel_that_is_set_up_wrongly_is_said_and_holds_up_no_other(office: Callable[..., Office]) -> None:
    at = office()
    work(at)
    wrong = AppriseNotifier("chat", Secret("env:NOT_SET_IN_THE_TESTS", "the address of the channel chat"), People())
    channels = {"chat": Channel(at.chat), "wrong": Channel(wrong)}
    assert "NOT_SET_IN_THE_TESTS, which is not set" in at.tick(channels=channels)
    assert [kind for kind, _ in at.chat.told()] == ["bucket_closed", "published"]
    at.tick(channels={"chat": Channel(at.chat), "wrong": Channel(at.mail)})  # mended, it is told there too
    assert [kind for kind, _ in at.mail.told()] == ["bucket_closed", "published"]
    assert at.chat.told() == []


def test_a_ticket_that_gitlab_refuses_does_not_hold_up_the_others(office: Callable[..., Office]) -> None:
    at = office()
    at.gitlab.faults.at(2, answering(400, b'{"message": "is invalid"}'))
    assert "refuses what we ask (status 400" in at.tick()
    at.tick()
    assert len(at.gitlab.issues) == 3


def test_what_was_published_long_before_anybody_was_told_is_no_news(office: Callable[..., Office]) -> None:
    at = office()
    work(at)
    at.now += timedelta(days=2)
    assert at.tick() == "0 notices told, 0 tickets brought up to date"
    assert at.gitlab.issues == []


def test_a_bucket_whose_telling_was_held_up_for_days_is_told_all_the_same(office: Callable[..., Office]) -> None:
    at = office()
    work(at)
    at.gitlab.stop()
    at.chat.is_away = True
    at.tick()
    at.now += timedelta(days=5)
    at.gitlab.start()
    at.chat.is_away = False
    at.tick()
    assert {kind for kind, _ in at.chat.told()} == {"bucket_closed", "published"}
    assert set(at.states().values()) == {("published", "closed")}


def test_payloads_made_anew_after_publishing_are_told_of(office: Callable[..., Office]) -> None:
    at = office(validation=FakeValidation({"val_svd": 0.0}))
    work(at)
    at.tick()
    at.chat.told()
    at.lab.validation = FakeValidation({"val_svd": 3.0})
    at.lab.caf = FakeCaf(payload_names(), values={"SVDTimes": 7.0})
    for file in at.lab.home.work("prompt", BUCKET_1).rglob("database.txt"):
        file.unlink()
    work(at, only_missing=False, only=["caf_svd"])
    at.tick()
    assert [kind for kind, _ in at.chat.told()] == ["needs_sign_off"]
    assert at.states()["SVD time"] == ("needs sign-off", "opened")
    assert at.states()[f"Bucket {BUCKET_1.key}"] == ("needs sign-off", "opened")


def test_dagster_runs_that_die_without_a_word_are_told_when_no_other_is_started(office: Callable[..., Office]) -> None:
    at = office()
    work(at, only=["caf_cdc"])
    at.tick()
    at.chat.told()
    definitions = dg.Definitions(assets=[], jobs=[some_job], resources={})
    tags = {"b2cal/campaign": "prompt", "dagster/partition": BUCKET_1.key, SITUATION_TAG: "0123"}
    for attempt in range(ATTEMPTS):
        at.tick()
        assert at.chat.told() == [], attempt
        run = at.lab.instance.create_run_for_job(definitions.resolve_job_def("some_job"), tags=tags)
        at.lab.instance.report_run_failed(run, "its worker died")
    at.tick()
    assert at.chat.told() == [("failed", (MANAGER,)), ("blocked", (MANAGER, "ada"))]
    assert "3 Dagster runs died before their work was done" in at.gitlab.issues[0].description


@dg.job
def some_job() -> None:
    """Stands for the bucket job, which the daemon would start."""


def test_what_there_is_no_time_for_is_told_by_the_next_tick(office: Callable[..., Office]) -> None:
    at = office()
    assert at.tick(seconds=0.0) == "0 notices told, 0 tickets brought up to date"
    assert at.tick() == "1 notices told, 4 tickets brought up to date"


def test_a_tick_that_comes_while_another_is_at_work_tells_nothing(office: Callable[..., Office]) -> None:
    at = office()
    said: list[str] = []

    class Slow(FakeNotifier):
        def tell(self, notice: Notice) -> None:
            said.append(at.tick())
            super().tell(notice)

    at.chat = Slow()
    assert at.tick().startswith("1 notices told")
    assert said == ["the tick before is still at work: somebody it tells answers slowly"]


def test_an_office_that_nobody_set_up_tells_nothing(laboratory: Callable[..., Laboratory]) -> None:
    lab = laboratory()
    with dg.build_sensor_context(instance=lab.instance, resources={"workshop": lab.workshop()}) as context:
        answer = notices_sensor([lab.plan])(context)
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == "nobody is to be told anything"


def test_killed_at_any_write_of_the_book_nothing_is_lost_and_no_ticket_doubled(
    office: Callable[..., Office], tmp_path: Path
) -> None:
    at = office(validation=FakeValidation({"val_svd": 3.0}))
    work(at)
    at.tick()
    whole = {notice.key for notice in at.chat.notices}
    for step in range(1, 100):
        at.gitlab.issues.clear()
        at.chat.notices.clear()
        at.url = f"sqlite:///{tmp_path}/book{step}.db"
        try:
            at.tick(book=DyingBook(at.url, at=step))
        except Killed:
            pass
        else:
            break
        at.tick()
        assert {notice.key for notice in at.chat.notices} == whole
        twice = [notice for notice in at.chat.notices if "may have reached you before" in notice.text]
        assert len(at.chat.notices) - len(whole) <= len(twice) <= 1
        assert len(at.gitlab.issues) == 3
        assert [len(issue.notes) for issue in at.gitlab.issues] == [0, 1, 1]
    assert step > 15
