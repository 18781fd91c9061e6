"""Notices: what people are told of a bucket, who hears it, and in which words.

A notice is known by its key, which is the same whenever the same happening is found again; so whoever remembers the
keys tells each once.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from b2cal_core.forecasts import Forecast
from b2cal_core.gates import sign_off_command
from b2cal_core.ranges import ExpRun
from b2cal_core.reminders import OpenSignOff, Reminder, Reminders, due_reminders
from b2cal_core.settings import asset_name
from b2cal_core.situations import BucketSituation, CalibrationSituation, Failure, markdown_table, quoted
from b2cal_core.verdicts import Decision, SignOff

_KEY_LETTERS, _NAME_LETTERS = 16, 50


class NoticeKind(StrEnum):
    """What is told."""

    bucket_closed = "bucket_closed"
    needs_sign_off = "needs_sign_off"
    not_enough_data = "not_enough_data"
    failed = "failed"
    blocked = "blocked"
    rejected = "rejected"
    published = "published"
    too_few_events = "too_few_events"
    reminder = "reminder"
    test = "test"

    @property
    def is_urgent(self) -> bool:
        """Whether work stands still until somebody acts."""
        return self in {NoticeKind.failed, NoticeKind.blocked, NoticeKind.rejected, NoticeKind.not_enough_data}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told, once.

    Attributes:
        key: at most 200 characters.
        to: names of people, as scripts and campaigns spell them; nobody: whoever reads the channel.
        title: one line.
        text: Markdown.
    """

    key: str
    kind: NoticeKind
    to: tuple[str, ...]
    title: str
    text: str

    def to_each(self) -> "tuple[Notice, ...]":
        """One notice for each who is to hear it, with keys of their own; itself when nobody is named."""
        each = (replace(self, key=f"{self.key}@{name[:_NAME_LETTERS]}", to=(name,)) for name in self.to)
        return tuple(each) or (self,)


@dataclass(frozen=True, slots=True)
class Person:
    """How a person is reached; what is empty is not known."""

    name: str
    email: str = ""
    gitlab: str = ""


class People:
    """Who is behind a name; a name that is not listed is taken for an address, else for an account on GitLab."""

    def __init__(self, listed: Iterable[Person] = ()) -> None:
        self._listed: Mapping[str, Person] = {person.name: person for person in listed}

    def find(self, name: str) -> Person:
        """The person of that name."""
        unlisted = Person(name, email=name) if "@" in name else Person(name, gitlab=name)
        return self._listed.get(name, unlisted)

    def emails(self, names: Iterable[str]) -> tuple[str, ...]:
        """The addresses that are known of these people, each once."""
        found = (self.find(name).email for name in names)
        return tuple(dict.fromkeys(email for email in found if email))


def notices_of(situation: BucketSituation, *, now: datetime, reminders: Reminders) -> tuple[Notice, ...]:
    """All that is to be told of a bucket as it stands, whether it was told before or not.

    Args:
        situation: of the bucket.
        now: in UTC.
        reminders: who is reminded of what waits, and when.
    """
    found = [_closed(situation)]
    for one in situation.calibrations:
        found += _of_calibration(situation, one, now=now, reminders=reminders)
    found += [_failed(situation, failure) for failure in situation.failures]
    found += _blocked(situation)
    if situation.published_at is not None:
        found.append(_published(situation, situation.published_at))
    return tuple(found)


def shortfall_notice(campaign: str, owner: str, first: ExpRun, forecast: Forecast) -> Notice:
    """That a calibration will not have enough events when the bucket that is filling closes.

    Args:
        campaign: whose bucket it is.
        owner: of the campaign; empty when nobody is named.
        first: the first run that the bucket can have, by which it is known before it is closed.
        forecast: of the calibration.
    """
    name, filling = forecast.calibration, f"{campaign}/e{first.exp:04d}r{first.run:05d}"
    key = f"{filling}/{asset_name(name)}:{NoticeKind.too_few_events}"
    title = f"[{campaign}] {name} will not have enough events in the bucket that is filling"
    text = (
        f"{name} has {forecast.events} events in the runs of the bucket from {first} on, and will have about "
        f"{forecast.at_closing} when it closes; the campaign says that it wants {forecast.wanted}. How it stands: "
        f"`b2cal bucket forecast {campaign}`. What is done then is said by `not_enough_data` of the campaign."
    )
    return Notice(key, NoticeKind.too_few_events, (owner,) if owner else (), title, text)


def trial_notice(key: str, to: Iterable[str]) -> Notice:
    """A notice that says nothing, to see whether it arrives."""
    text = "This is a test: notices of the calibration system arrive here. Nothing is to be done."
    return Notice(key, NoticeKind.test, tuple(to), "b2cal: a test of the notices", text)


def _of_calibration(
    situation: BucketSituation, one: CalibrationSituation, *, now: datetime, reminders: Reminders
) -> Iterator[Notice]:
    if one.at_work:
        return
    signed = one.standing.sign_off
    if one.failure is not None:
        yield _failed(situation, one.failure, one)
    if signed is not None and signed.decision is Decision.rejected:
        yield _rejected(situation, one, signed)
    for waiting in filter(None, (one.open_question, one.open_sign_off)):
        yield _asked(situation, one, waiting)
        for reminder in due_reminders([waiting], reminders, now):
            yield _reminded(situation, one, reminder, now=now)


def _closed(situation: BucketSituation) -> Notice:
    names = ", ".join(one.name for one in situation.calibrations)
    text = f"Bucket `{situation.bucket.key}` of campaign `{situation.campaign}` is closed. To be calibrated: {names}."
    return _notice(situation, NoticeKind.bucket_closed, "is closed", text, to=[situation.owner])


def _asked(situation: BucketSituation, one: CalibrationSituation, waiting: OpenSignOff) -> Notice:
    mark, what = _short(waiting.evidence), _what_to_do(situation, one, waiting)
    if waiting.question:
        title = "has not enough data, and somebody must choose what is done"
        return _notice(situation, NoticeKind.not_enough_data, title, what, one=one, mark=mark, to=[one.expert])
    title = f"needs a sign-off, its verdict is {waiting.verdict}"
    text = f"The payloads of {one.name} are made and judged. {what}"
    return _notice(situation, NoticeKind.needs_sign_off, title, text, one=one, mark=mark, to=[one.expert])


def _reminded(situation: BucketSituation, one: CalibrationSituation, reminder: Reminder, *, now: datetime) -> Notice:
    days = reminder.about.waited(now) / timedelta(days=1)
    text = f"{one.name} has waited for {days:.1f} days. {_what_to_do(situation, one, reminder.about)}"
    mark = _short(reminder.key)
    title = f"still waits for {'a choice what is done' if reminder.about.question else 'its sign-off'}"
    return _notice(situation, NoticeKind.reminder, title, text, one=one, mark=mark, to=reminder.to)


def _failed(situation: BucketSituation, failure: Failure, one: CalibrationSituation | None = None) -> Notice:
    text = f"{quoted(failure.sentence)}\n\nWhen it is mended: `b2cal bucket run {situation.place}`"
    title = f"failed in {failure.step}" if one is None else "failed"
    mark = _short(f"{failure.step} {failure.when.isoformat()}")
    to = [situation.owner] if one is None else [one.expert]
    return _notice(situation, NoticeKind.failed, title, text, one=one, mark=mark, to=to)


def _rejected(situation: BucketSituation, one: CalibrationSituation, signed: SignOff) -> Notice:
    redo = f"`b2cal bucket run {situation.place} --only {one.short}`"
    why = f"`{signed.author}` rejected them:\n\n{quoted(signed.reason)}"
    text = f"The payloads of {one.name} are not used. {why}\n\nWhen it is mended: {redo}"
    mark = _short(f"{signed.evidence} {signed.when.isoformat()}")
    return _notice(situation, NoticeKind.rejected, "was rejected", text, one=one, mark=mark, to=[one.expert])


def _blocked(situation: BucketSituation) -> Iterator[Notice]:
    """One notice for all that stands still, to those who wait."""
    causes = situation.stoppers()
    if situation.at_work or not (causes or situation.failures):
        return
    stopped = [one for one in situation.calibrations if not one.standing.has_payloads and one not in causes]
    names = [*(one.name for one in causes), *(failure.step for failure in situation.failures)]
    waiting = [*(one.name for one in stopped), "publishing"]
    rows = [{"stands still": ", ".join(waiting), "because of": ", ".join(names)}]
    text = f"{markdown_table(rows)}\n\nWhat is to be done: `b2cal bucket why {situation.place}`"
    mark = _short("\n".join([*names, *(one.findings.content for one in causes)]))
    to = [situation.owner, *(one.expert for one in stopped)]
    yield _notice(situation, NoticeKind.blocked, f"stands still because of {', '.join(names)}", text, mark=mark, to=to)


def _published(situation: BucketSituation, when: datetime) -> Notice:
    text = f"The constants of bucket `{situation.bucket.key}` are in the global tag `{situation.target_tag}`."
    mark = when.strftime("%Y%m%dT%H%M%S")
    title = f"is published in {situation.target_tag}"
    return _notice(situation, NoticeKind.published, title, text, mark=mark, to=[situation.owner])


def _notice(
    situation: BucketSituation,
    kind: NoticeKind,
    title: str,
    text: str,
    *,
    one: CalibrationSituation | None = None,
    mark: str = "",
    to: Iterable[str],
) -> Notice:
    """The notice with its key; ``mark`` tells one happening of its kind from the next."""
    key = ":".join(filter(None, (situation.key if one is None else f"{situation.key}/{one.short}", kind.value, mark)))
    who = "the bucket" if one is None else one.name
    page = situation.page if one is None else one.page
    named = dict.fromkeys(filter(None, to))
    heard = tuple(named) or ((situation.owner,) if situation.owner else ())
    label = f" ({situation.bucket.label})" if situation.bucket.label else ""
    shown = f"{text}\n\n[Look at it]({page})" if page else text
    return Notice(key, kind, heard, f"[{situation.place}{label}] {who} {title}", shown)


def _what_to_do(situation: BucketSituation, one: CalibrationSituation, waiting: OpenSignOff) -> str:
    if waiting.question:
        return f"What is asked:\n\n{quoted(waiting.question)}"
    return f"Look at them, then `{sign_off_command(situation.place, one.short)}`"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LETTERS]
