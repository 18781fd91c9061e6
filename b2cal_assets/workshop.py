"""What assets and sensors work with: the ports, as one resource."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Site
from b2cal_core.notices import People
from b2cal_core.payloads import AuditEntry, Release
from b2cal_core.plans import PlanDocument
from b2cal_core.ports import (
    Caf,
    CafObserver,
    CampaignStore,
    CdstProducer,
    Channel,
    ConditionsDB,
    NoticeBook,
    RunRegistry,
    SignOffLog,
    TicketSystem,
    ValidationRequest,
)
from b2cal_core.publishing import TagIov, UpdateMode
from b2cal_core.ranges import ExpRun
from b2cal_core.verdicts import Figure


class Workplaces(Protocol):
    """Where the work on a bucket lies on disk."""

    def work(self, campaign: str, bucket: Bucket | str) -> Path:
        """The work directory of one bucket."""

    def request(self, campaign: str, bucket: Bucket | str, *, calibration: str) -> Path:
        """The CAF request directory of one calibration."""

    def validation(self, campaign: str, bucket: Bucket | str, *, calibration: str) -> Path:
        """Plots and figures of one calibration."""

    def cdst(self, campaign: str, bucket: Bucket | str) -> Path:
        """The bucket's cDST files."""


class PlanStory(Protocol):
    """What is known of a plan that was made for a tag before."""

    @property
    def applied(self) -> AuditEntry | None:
        """The line of the audit log that says it was carried out."""

    @property
    def document(self) -> PlanDocument | None:
        """The plan, once it was carried out."""

    @property
    def undone_by(self) -> str | None:
        """Hash of the plan that took it back; ``None`` while it holds."""


class ReadBack(Protocol):
    """What was found when a plan was read back."""

    @property
    def discrepancies(self) -> tuple[str, ...]:
        """What is not as the plan says, in sentences."""

    @property
    def visibility(self) -> str:
        """Who sees this already."""


class Publishing(Protocol):
    """Makes plans for running tags, carries them out, and reads them back."""

    def plan_update(
        self, target: str, staging: str, *, first_run: ExpRun, mode: UpdateMode = ..., purpose: str = ""
    ) -> PlanDocument:
        """The update that brings the staging tag in; ``ConflictError`` when a rule forbids it."""

    def approve(self, document: PlanDocument, release: Release) -> AuditEntry:
        """Note who agreed to just this plan."""

    def apply(self, document: PlanDocument, release: Release) -> tuple[TagIov, ...]:
        """Carry the plan out, alone and with all checks, and read it back."""

    def verify(self, document: PlanDocument) -> ReadBack:
        """Whether readers get what an applied plan says."""

    def history(self, target: str) -> Sequence[PlanStory]:
        """The plans of a tag, oldest first."""


class SilentObserver(CafObserver):
    """Hears everything and tells nobody."""

    def state(self, calibration: str, state: str, iteration: int) -> None:
        """Nothing is done with it."""

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        """Nothing is done with it."""

    def log(self, message: str) -> None:
        """Nothing is done with it."""


@dataclass(frozen=True)
class Correspondence:
    """How people are told of the work.

    Attributes:
        channels: name to channel.
        tickets: ``None`` when there are none.
        dagster_address: where people open Dagster's pages; empty for no links.
    """

    channels: Mapping[str, Channel]
    book: NoticeBook
    people: People
    tickets: TicketSystem | None = None
    dagster_address: str = ""


@dataclass(frozen=True)
class Workshop:
    """The ports of one installation.

    Attributes:
        places: gives where a site's work lies.
        caf, cdst, validate: make the adapter for a campaign's site.
        publisher: plans and publishes in ``conditions``.
        listener: hears, besides Dagster, what happens in long work; for the command line.
        correspondence: makes what people are told with; ``None`` when nobody is told anything.
    """

    places: Callable[[Site], Workplaces]
    campaigns: CampaignStore
    runs: RunRegistry
    conditions: ConditionsDB
    publisher: Publishing
    sign_offs: SignOffLog
    caf: Callable[[Site], Caf]
    cdst: Callable[[Site], CdstProducer]
    validate: Callable[[Site], Callable[[ValidationRequest], Sequence[Figure]]]
    listener: CafObserver = field(default_factory=SilentObserver)
    correspondence: Callable[[], Correspondence] | None = None
