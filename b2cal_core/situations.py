"""How far a bucket is, in what people are told of it: the one picture that notices and tickets are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Gate
from b2cal_core.deputies import Deciders
from b2cal_core.gates import CalibrationStanding, check_gate
from b2cal_core.reminders import OpenSignOff
from b2cal_core.settings import asset_name
from b2cal_core.verdicts import Decision

Row = Mapping[str, object]
"""One line of a table for people: column to value."""


class WorkState(StrEnum):
    """Where the work on a calibration, or on a whole bucket, stands; the label of its ticket."""

    waiting = "waiting"
    running = "running"
    failed = "failed"
    needs_choice = "needs a choice"
    needs_sign_off = "needs sign-off"
    rejected = "rejected"
    waived = "waived"
    accepted = "accepted"
    published = "published"


_URGENT = (
    WorkState.failed,
    WorkState.rejected,
    WorkState.needs_choice,
    WorkState.needs_sign_off,
    WorkState.running,
)
"""What is told of a bucket when it is true of any of its calibrations, the first of these before the others."""


_SPECIAL = ("\\", "|", "`", "*", "_", "<", "@")
"""What would be Markdown, or a mention, in the cell of a table."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed by its own fault and was not made good since: which, why, and when, in UTC."""

    step: str
    sentence: str
    when: datetime


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture for people, a PNG file that may be gone by the time it is read."""

    name: str
    file: Path


@dataclass(frozen=True, slots=True)
class Findings:
    """What is to be looked at before a result is accepted.

    Attributes:
        iovs: the first of them; ``iov_count`` says how many there are.
        judged_at: when the verdict was reached, in UTC; ``None`` while there is none over these payloads.
    """

    content: str = ""
    judged_at: datetime | None = None
    figures: tuple[Row, ...] = ()
    iovs: tuple[Row, ...] = ()
    iov_count: int = 0
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True, slots=True)
class CalibrationSituation:
    """One calibration in one bucket.

    Attributes:
        deciders: its expert and the others who may decide over it.
        at_work: one of its steps is being run.
        open_sign_off: its payloads are judged and wait for a person; ``None`` when they do not.
        open_question: it lacks data and waits until a person has chosen what is done; ``None`` when it does not.
        page: address of the page that shows its validation; empty when there is none.
    """

    standing: CalibrationStanding
    deciders: Deciders
    at_work: bool = False
    open_sign_off: OpenSignOff | None = None
    open_question: OpenSignOff | None = None
    failure: Failure | None = None
    findings: Findings = Findings()
    page: str = ""

    @property
    def name(self) -> str:
        """The calibration's name."""
        return self.standing.name

    @property
    def short(self) -> str:
        """Its name in commands and keys."""
        return asset_name(self.name)

    @property
    def expert(self) -> str:
        """As its script names the person; empty when it names nobody."""
        return self.deciders.expert

    def state(self, *, published: bool) -> WorkState:
        """Where it stands; ``published`` says that its bucket is."""
        signed = self.standing.sign_off
        if self.at_work:
            return WorkState.running
        if self.failure is not None:
            return WorkState.failed
        if self.open_question is not None:
            return WorkState.needs_choice
        if signed is not None:
            return _decided(signed.decision, published=published)
        return WorkState.waiting if self.open_sign_off is None else WorkState.needs_sign_off


def _decided(decision: Decision, *, published: bool) -> WorkState:
    if decision is Decision.rejected:
        return WorkState.rejected
    if published:
        return WorkState.published
    return WorkState.waived if decision is Decision.waived else WorkState.accepted


@dataclass(frozen=True, slots=True)
class BucketSituation:
    """One bucket of one campaign.

    Attributes:
        owner: who is responsible for the campaign; empty when nobody is named.
        at_work: a Dagster run on the bucket is not finished.
        failures: of steps that belong to no calibration.
        published_at: when it was published last, in UTC; ``None`` when it was not.
        page: address of the page that shows its publishing; empty when there is none.
    """

    campaign: str
    bucket: Bucket
    owner: str
    calibrations: tuple[CalibrationSituation, ...]
    target_tag: str
    at_work: bool = False
    failures: tuple[Failure, ...] = ()
    published_at: datetime | None = None
    page: str = ""

    @property
    def place(self) -> str:
        """Campaign and bucket as commands take them."""
        return f"{self.campaign} {self.bucket.key}"

    @property
    def key(self) -> str:
        """Campaign and bucket as keys of notices and tickets begin."""
        return f"{self.campaign}/{self.bucket.key}"

    @property
    def is_published(self) -> bool:
        """Whether it was published, and nothing of it is open again since."""
        return self.published_at is not None and all(
            one.state(published=True) is WorkState.published for one in self.calibrations
        )

    def stoppers(self) -> tuple[CalibrationSituation, ...]:
        """The calibrations that let nothing after them go on until a person has acted."""
        return tuple(one for one in self.calibrations if not one.at_work and self._stops(one))

    def _stops(self, one: CalibrationSituation) -> bool:
        return one.failure is not None or one.open_question is not None or self._is_shut(one)

    def _is_shut(self, one: CalibrationSituation) -> bool:
        made = one.standing.has_payloads
        return made and bool(check_gate(Gate.verdict, [one.standing], campaign=self.campaign, bucket=self.bucket))

    def state(self) -> WorkState:
        """Where the bucket stands: what most needs a person, else how far all have come."""
        if self.is_published:
            return WorkState.published
        states = {one.state(published=False) for one in self.calibrations}
        states |= {WorkState.failed} if self.failures else set()
        for urgent in _URGENT:
            if urgent in states:
                return urgent
        if self.at_work:
            return WorkState.running
        return WorkState.accepted if states <= {WorkState.accepted, WorkState.waived} else WorkState.waiting


def quoted(text: str) -> str:
    """Free text as a block of Markdown in which nothing is a command, a mention or a link."""
    return "```\n" + text.replace("```", "'''") + "\n```"


def markdown_table(rows: Sequence[Row]) -> str:
    """Rows with the same keys as a Markdown table; empty when there is none."""
    if not rows:
        return ""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    for special in _SPECIAL:
        text = text.replace(special, _escaped(special))
    return " ".join(text.split())


def unescaped(markdown: str) -> str:
    """The text as it is read where nothing renders Markdown: what tables escape is the letter that it stands for."""
    for special in _SPECIAL:
        markdown = markdown.replace(_escaped(special), special)
    return markdown


def _escaped(special: str) -> str:
    return f"&#{ord(special)};"
