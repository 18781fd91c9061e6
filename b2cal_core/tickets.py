"""Tickets: one for each bucket, and below it one for each calibration, as they should stand.

A ticket here is what is wanted, whole; the ticket system makes what it has equal to that, however often it is asked.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from b2cal_core.gates import sign_off_command
from b2cal_core.notices import People
from b2cal_core.situations import (
    BucketSituation,
    CalibrationSituation,
    Plot,
    WorkState,
    markdown_table,
    quoted,
)

_DONE = frozenset({WorkState.accepted, WorkState.published})
"""States in which nothing is to be decided over a calibration."""
_TIME = "%Y-%m-%d %H:%M:%S"
_KEPT = "_This text is kept by b2cal and written anew when something changes; write into the comments._"


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment that is written once, to tell those who follow a ticket what is new in it."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket as it should stand.

    Attributes:
        key: its identity, at most 255 characters.
        text: Markdown; the plots follow it.
        labels: besides the state.
        assignee: account in the ticket system; empty for nobody.
        done: it is closed.
        parent: id of the ticket it belongs to, as the ticket system gave it; empty for none.
    """

    key: str
    title: str
    text: str
    state: WorkState
    labels: tuple[str, ...] = ()
    assignee: str = ""
    done: bool = False
    parent: str = ""
    plots: tuple[Plot, ...] = ()
    remark: Remark | None = None

    @property
    def digest(self) -> str:
        """Equal for tickets in which nothing differs; a plot that was drawn anew is told by the text beside it."""
        fields = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(fields.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TicketReference:
    """Where a ticket is: its id in the ticket system, and the address for people."""

    id: str
    address: str


def nobody_has(accounts: Iterable[str]) -> str:
    """The sentence about accounts that tickets should be assigned to and that nobody has."""
    named = ", ".join(map(repr, accounts))
    mend = "give the right one in deployment.yaml: people: {NAME: {gitlab: …}}"
    return f"nobody has the account {named}, so tickets are not assigned; {mend}"


def bucket_ticket(situation: BucketSituation, people: People, children: Mapping[str, TicketReference]) -> Ticket:
    """The ticket of a bucket, for the owner of its campaign; closed when the bucket is published.

    Args:
        situation: of the bucket.
        people: who is who.
        children: calibration to its ticket, for those that there are.
    """
    state = situation.state()
    return Ticket(
        key=situation.key,
        title=f"Bucket {situation.bucket.label or situation.bucket.key} of {situation.campaign}",
        text=_bucket_text(situation, children),
        state=state,
        labels=(f"campaign::{situation.campaign}",),
        assignee=_account(situation.owner, people),
        done=state is WorkState.published,
        remark=_bucket_remark(situation, state),
    )


def calibration_ticket(situation: BucketSituation, one: CalibrationSituation, people: People, *, parent: str) -> Ticket:
    """The ticket of a calibration in a bucket, for its expert; closed when it is accepted."""
    state = one.state(published=situation.is_published)
    return Ticket(
        key=f"{situation.key}/{one.short}",
        title=f"{one.name}, bucket {situation.bucket.label or situation.bucket.key} of {situation.campaign}",
        text=_calibration_text(situation, one, people),
        state=state,
        labels=(f"campaign::{situation.campaign}",),
        assignee=_account(one.expert or situation.owner, people),
        done=state in _DONE,
        parent=parent,
        plots=one.findings.plots,
        remark=_calibration_remark(situation, one, state),
    )


def _account(name: str, people: People) -> str:
    return people.find(name).gitlab if name else ""


def _bucket_text(situation: BucketSituation, children: Mapping[str, TicketReference]) -> str:
    rows = [
        {
            "calibration": one.name,
            "state": one.state(published=situation.is_published).value,
            "verdict": one.standing.verdict.value if one.standing.verdict else "none yet",
            "expert": one.expert or "nobody",
        }
        for one in situation.calibrations
    ]
    links = [f"- [{one.name}]({children[one.name].address})" for one in situation.calibrations if one.name in children]
    first, last = situation.bucket.first, situation.bucket.last
    return _joined(
        f"Runs {first.run} of experiment {first.exp} to {last.run} of experiment {last.exp}, both included. "
        f"Target: global tag `{situation.target_tag}`.",
        markdown_table(rows),
        "\n".join(links),
        *(f"{failure.step} failed:\n\n{quoted(failure.sentence)}" for failure in situation.failures),
        f"How it stands: `b2cal bucket why {situation.place}`",
        _page(situation.page),
        _KEPT,
    )


def _calibration_text(situation: BucketSituation, one: CalibrationSituation, people: People) -> str:
    findings, verdict = one.findings, one.standing.verdict
    unknown = "" if one.expert else "The script names no expert. "
    return _joined(
        f"{unknown}Expert: {_named(one.expert or situation.owner, people)}. Bucket `{situation.bucket.key}`.",
        f"**Verdict: {verdict.value}**" if verdict else "There is no verdict over the payloads yet.",
        f"Judged at {findings.judged_at:{_TIME}} UTC." if findings.judged_at else "",
        _section("Figures of merit", markdown_table(findings.figures)),
        _section(f"IoVs ({findings.iov_count})", markdown_table(findings.iovs)),
        f"It failed:\n\n{quoted(one.failure.sentence)}" if one.failure else "",
        _question(one),
        _decision(one),
        _to_decide(situation, one),
        _page(one.page),
        _KEPT,
    )


def _to_decide(situation: BucketSituation, one: CalibrationSituation) -> str:
    decided = one.state(published=situation.is_published) in _DONE
    if decided or not one.standing.has_payloads:
        return ""
    return f"To decide: `{sign_off_command(situation.place, one.short)}`"


def _named(name: str, people: People) -> str:
    person = people.find(name)
    return f"`{name}`" if not person.gitlab or person.gitlab == name else f"`{name}` (`{person.gitlab}`)"


def _question(one: CalibrationSituation) -> str:
    asked = one.open_question
    return f"It waits until somebody chooses:\n\n{quoted(asked.question)}" if asked is not None else ""


def _decision(one: CalibrationSituation) -> str:
    signed = one.standing.sign_off
    if signed is None:
        return ""
    until = f", until {signed.until:{_TIME}} UTC" if signed.until else ""
    who = f"`{signed.author}` at {signed.when:{_TIME}} UTC{until}"
    return f"{signed.decision.value.capitalize()} by {who}:\n\n{quoted(signed.reason)}"


def _calibration_remark(situation: BucketSituation, one: CalibrationSituation, state: WorkState) -> Remark | None:
    """What is new, for those who follow the ticket; nothing while the work only goes on."""
    if state is WorkState.failed and one.failure is not None:
        told = f"It failed:\n\n{quoted(one.failure.sentence)}\n\nThen: `b2cal bucket run {situation.place}`"
        return _remark(told, one.failure.when.isoformat())
    if state is WorkState.needs_choice and one.open_question is not None:
        return _remark(_question(one), one.open_question.evidence)
    if state is WorkState.needs_sign_off and one.open_sign_off is not None:
        verdict = one.open_sign_off.verdict
        told = f"It waits for your sign-off; the verdict is {verdict}. `{sign_off_command(situation.place, one.short)}`"
        return _remark(told, one.findings.content)
    if state in {WorkState.rejected, WorkState.waived, WorkState.accepted}:
        return _remark(_decision(one), one.findings.content)
    if state is WorkState.published:
        return _remark(f"Published in `{situation.target_tag}`.", one.findings.content)
    return None


def _bucket_remark(situation: BucketSituation, state: WorkState) -> Remark | None:
    if state is WorkState.published:
        return _remark(f"Published in `{situation.target_tag}`.", str(situation.published_at))
    if situation.failures:
        told = "\n\n".join(f"{failure.step} failed:\n\n{quoted(failure.sentence)}" for failure in situation.failures)
        return _remark(told, ",".join(failure.when.isoformat() for failure in situation.failures))
    return None


def _remark(text: str, happening: str) -> Remark:
    return Remark(hashlib.sha256(f"{happening}\n{text}".encode()).hexdigest()[:16], text)


def _section(title: str, content: str) -> str:
    return f"#### {title}\n\n{content}" if content else ""


def _page(address: str) -> str:
    return f"[Look at it]({address})" if address else ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
