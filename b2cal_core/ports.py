"""The ports: what the platform asks of the world outside, one abstract class each.

Adapters live in ``resources``; every adapter and every fake of a port passes the same contract tests. Times are UTC.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from b2cal_core.buckets import BookedBucket, Bucket
from b2cal_core.campaign_states import CampaignChange, CampaignState, CampaignVersion
from b2cal_core.campaigns import Campaign
from b2cal_core.data_shortage import ShortageChoice
from b2cal_core.failure_policies import FailurePolicy
from b2cal_core.jobs import JobSpec, JobState
from b2cal_core.notices import Notice, NoticeKind
from b2cal_core.payloads import AuditEntry, GlobalTag, Lease, LocalPayload, Payload, Release, Resolved, TagState
from b2cal_core.plans import PlanDocument
from b2cal_core.provenance import PayloadKey, Provenance
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord
from b2cal_core.settings import Catalogue
from b2cal_core.tickets import Ticket, TicketReference
from b2cal_core.verdicts import SignOff


class BatchBackend(ABC):
    """A place that runs collector and other batch jobs.

    A job is known by its key and directory. It is run once: whoever submits it again, also another process after a
    crash at any moment of a submission, gets the id of the job that there is, as long as the directory holds what
    the backend left in it. To run it anew, use another key.
    """

    @abstractmethod
    def submit(self, specs: Sequence[JobSpec]) -> tuple[str, ...]:
        """Hand the jobs over in one call and return their native ids, in order; a key asked for twice is run once.

        Raises:
            ConfigurationError: a job cannot be run as it is; nothing was submitted.
            BackendError: the batch system does not take them; submitting the same jobs again goes on where it broke
                off. ``transient`` when asking later may help.
        """

    @abstractmethod
    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """The state of every id, also of ids a former process submitted; an id it cannot tell about is ``unknown``.

        A batch system that does not answer makes its jobs ``unknown`` with ``Cause.batch``; it never raises.
        """

    @abstractmethod
    def wait(self, ids: Sequence[str], timeout: float) -> Mapping[str, JobState]:
        """Like ``poll``, after at least one of the jobs ended or was held, or ``timeout`` seconds passed."""

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> None:
        """End the jobs that have not ended; when it returns they no longer run. Unknown ids are passed over.

        Raises:
            BackendError: the batch system does not answer, and some may still run.
        """

    @abstractmethod
    def release(self, ids: Sequence[str]) -> None:
        """Let held jobs go on; ids that are not held are passed over.

        Raises:
            BackendError: the batch system does not answer.
        """

    def why_waiting(self, ids: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002 (adapters look at them)
        """Why jobs have not been started yet, in words for people; only ids of which the batch system says so.

        Raises:
            BackendError: the batch system does not answer.
        """
        return {}


class CafObserver(ABC):
    """Hears what happens during long work; must return quickly and must not raise."""

    @abstractmethod
    def state(self, calibration: str, state: str, iteration: int) -> None:
        """A CAF calibration entered a state."""

    @abstractmethod
    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        """How many jobs stand where: ``submitted``, ``running``, ``held``, ``completed``, ``failed``, ``cached``."""

    @abstractmethod
    def log(self, message: str) -> None:
        """A line for people."""


@dataclass(frozen=True, slots=True)
class CafRequest:
    """One prompt calibration to be run; the fields are those of ``b2caf-prompt-run``'s two JSON files.

    Attributes:
        directory: the request's own working directory; the same directory is the same request, resumed.
        script: file with ``settings`` and ``get_calibrations``.
        database_chain: global tags, the last one has the highest priority.
        requested_iov: the bucket, closed at both ends.
        input_data: input name to (file, run) pairs; a directory stands for every ``*.root`` in it.
        failure_policy: what is done about sub-jobs that fail; it does not change what the request is.
        priority: that of its jobs at the batch system; it does not change what the request is either. Within the
            request, a job gets one more for each pass of a calibration that can only follow it.
    """

    directory: Path
    script: Path
    database_chain: tuple[str, ...]
    requested_iov: IoV
    input_data: Mapping[str, tuple[tuple[Path, ExpRun], ...]]
    expert_config: Mapping[str, Any] = field(default_factory=dict)
    backend_args: Mapping[str, Any] = field(default_factory=dict)
    failure_policy: FailurePolicy = field(default_factory=FailurePolicy)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class CollectedSummary:
    """What collection amounted to, for people and for the cache's account.

    Attributes:
        events: events read per run, over all collections of the first iteration.
        rejected: file name to the reason it was left out.
        jobs: sub-jobs run, in all iterations; ``cached``: sub-jobs whose output was found in the cache.
    """

    files: int = 0
    events: Mapping[ExpRun, int] = field(default_factory=dict)
    jobs: int = 0
    cached: int = 0
    rejected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CafResult:
    """How a request ended.

    Attributes:
        states: CAF calibration to its last state: ``completed``, ``failed`` or ``skipped`` (a dependency failed).
        databases: CAF calibration to the directory of its exported ``database.txt``; only those with ``save_payloads``.
        errors: CAF calibration to one clear sentence, for those that failed.
        seconds: wall time in ``collect`` and ``algorithms``; nothing for what was already done.
        resumed: everything had been done before, nothing was run.
        short_of_data: CAF calibrations that failed because an algorithm had not enough data, where the CAF can tell.
    """

    states: Mapping[str, str]
    databases: Mapping[str, Path]
    errors: Mapping[str, str]
    collected: CollectedSummary
    seconds: Mapping[str, float]
    iterations: Mapping[str, int]
    resumed: bool = False
    short_of_data: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        """Whether every calibration of the script is completed."""
        return all(state == "completed" for state in self.states.values())


class Caf(ABC):
    """Runs one prompt calibration script to its end."""

    @abstractmethod
    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        """Run, or resume, the request; blocking and idempotent for one request directory.

        Raises:
            ConfigurationError: the script cannot be used as it is (the message says why and who mends it).
            DataError: the input as a whole cannot be used.
            BackendError: the batch system failed; asking again resumes.
        A calibration that fails is no exception: it is in the result, and what does not depend on it is completed.
        """

    def collect_ahead(
        self,
        request: CafRequest,  # noqa: ARG002 (see below)
        observer: CafObserver,  # noqa: ARG002
        awaited: frozenset[str],  # noqa: ARG002
    ) -> CollectedSummary:
        """Collect for a bucket that is not closed yet, so that its own request finds the output in the cache.

        Collections that read one of the ``awaited`` payloads, which the bucket's other calibrations have yet to make,
        are left for later, and so is what comes after the first iteration's collections. What fails is told to the
        observer and tried again later. Blocking, repeatable and cancelled like ``run``; nothing is done by a CAF
        that keeps no collector output.
        """
        return CollectedSummary()

    @abstractmethod
    def cancel(self) -> None:
        """Make a ``run`` in another thread end soon, its batch jobs cancelled; it then raises ``BackendError``."""


@dataclass(frozen=True, slots=True)
class CdstRequest:
    """Reconstruction of a bucket's raw files with the constants of a chain of tags (last has the highest priority)."""

    directory: Path
    runs: tuple[RunRecord, ...]
    database_chain: tuple[str, ...]
    failure_policy: FailurePolicy = field(default_factory=FailurePolicy)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class CdstResult:
    """The runs, each with its cDST files only; input files left out with the reason; wall seconds spent."""

    runs: tuple[RunRecord, ...]
    rejected: Mapping[str, str]
    seconds: float
    jobs: int = 0
    cached: int = 0


class CdstProducer(ABC):
    """Makes cDST files from raw files."""

    @abstractmethod
    def produce(self, request: CdstRequest, observer: CafObserver) -> CdstResult:
        """Produce, or resume, the request; a file whose raw data and constants are unchanged is not made again."""


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """One validation script to be run on what a CAF request left behind.

    Attributes:
        directory: where plots and ``figures.json`` go.
        job_path: the directory of the CAF request.
        previous: directory with a ``database.txt`` of the payloads valid before the bucket, to compare with; or none.
    """

    directory: Path
    script: Path
    job_path: Path
    requested_iov: IoV
    expert_config: Mapping[str, Any]
    previous: Path | None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a conditions database can promise.

    Attributes:
        atomic_update: a running update is seen as a whole or not at all.
        atomic_edit: so is a change of an OPEN tag; otherwise it is made link by link, and a broken one is resumed.
        per_tag_rights: it keeps out who may not change a tag.
        server_revisions: it gives the revisions, not the one who uploads.
        immutable_past: it refuses by itself what would change the past of a RUNNING tag.
        time_machine: it can be read as it was after an earlier change.
        rollback: a running update that is not final can be taken back.
        cache_delay_seconds: how long readers other than this client may see the state before a change.
    """

    atomic_update: bool
    atomic_edit: bool
    per_tag_rights: bool
    server_revisions: bool
    immutable_past: bool
    time_machine: bool
    rollback: bool
    cache_delay_seconds: float = 0.0


class ConditionsDB(ABC):
    """Global tags and payloads. Absent is ``None`` or an empty answer; every failure raises ``BackendError``.

    A change of a tag that somebody else holds a lease on raises ``ConflictError``, one that the user has no right to
    raises ``RightsError`` before anything is uploaded; both leave everything as it was.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this database can promise."""

    # Tags

    @abstractmethod
    def get_tag(self, name: str) -> GlobalTag | None:
        """The tag, or ``None`` when there is none of that name."""

    @abstractmethod
    def list_tags(self, pattern: str = "*") -> tuple[GlobalTag, ...]:
        """Tags whose name matches the shell pattern, by name."""

    @abstractmethod
    def create_tag(self, name: str, description: str = "", *, type: str = "DEV") -> GlobalTag:  # noqa: A002 (the database's word)
        """Make an OPEN tag; one that exists already raises ``ConflictError``."""

    @abstractmethod
    def clone_tag(self, source: str, name: str, *, state: TagState = TagState.OPEN, description: str = "") -> GlobalTag:
        """Make a tag with the content ``source`` has now; a clone in the state PUBLISHED is a snapshot for ever."""

    @abstractmethod
    def set_state(self, name: str, *, expected: TagState, new: TagState, lease: Lease | None = None) -> GlobalTag:
        """Change the state; ``ConflictError`` when the tag is not in ``expected`` or may not go to ``new``."""

    @abstractmethod
    def list_iovs(self, tag: str, within: IoV | None = None, *, as_of: int | None = None) -> tuple[TagIov, ...]:
        """The links of a tag that share a run with ``within``, ids included, by name, start and revision.

        Args:
            tag: an unknown one raises ``ConfigurationError``.
            within: by default all runs; both ends belong to it.
            as_of: as it was right after this line of the audit log.
        """

    @abstractmethod
    def fingerprint(self, tag: str) -> str:
        """A hash of the tag's state and content, as ``b2cal_core.plans`` makes it: equal exactly when both are."""

    # Payloads

    @abstractmethod
    def put_payloads(self, files: Sequence[tuple[str, Path]]) -> tuple[Payload, ...]:
        """Store (name, file) pairs; the same name and content again gives the payload that exists.

        Raises:
            DataError: a file cannot be read; nothing was stored.
        """

    def put_payload(self, name: str, file: Path) -> Payload:
        """Store one file's content."""
        return self.put_payloads([(name, file)])[0]

    @abstractmethod
    def find_payloads(self, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], Payload]:
        """(name, md5) to payload, for those that exist."""

    @abstractmethod
    def payloads_of(self, wanted: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], Payload]:
        """(name, revision) to payload, for those that exist."""

    def payload(self, name: str, revision: int) -> Payload | None:
        """The payload of that revision, or ``None``."""
        return self.payloads_of([(name, revision)]).get((name, revision))

    @abstractmethod
    def payload_file(self, payload: Payload) -> Path:
        """A readable file with the payload's content, its checksum verified; ``IntegrityError`` when it is damaged."""

    # Contents of OPEN tags

    @abstractmethod
    def replace_iovs(self, tag: str, names: Iterable[str], payloads: Sequence[LocalPayload]) -> tuple[TagIov, ...]:
        """Give an OPEN tag these payloads for these names; what it had of the names is dropped. Returns their links.

        Raises:
            ConflictError: the tag is not OPEN, or two IoVs of one name overlap; nothing was changed.
        """

    @abstractmethod
    def add_iovs(self, tag: str, iovs: Sequence[TagIov]) -> tuple[TagIov, ...]:
        """Link payloads that the database has to an OPEN tag; links it has already are passed over.

        Returns:
            The tag's links of the names of ``iovs`` afterwards.

        Raises:
            ConflictError: the tag is not OPEN, or two IoVs of one name would overlap; nothing was changed.
            DataError: there is no payload of a name and revision; nothing was changed.
        """

    # Reading

    @abstractmethod
    def resolve(
        self, chain: Sequence[str], run: ExpRun, names: Iterable[str] | None = None, *, as_of: int | None = None
    ) -> Mapping[str, Resolved]:
        """The payload of every name valid in the run; the LAST tag of ``chain`` has the highest priority.

        Raises:
            DataError: one of ``names`` is found in no tag; the message names it, the run and the chain.
        """

    @abstractmethod
    def export(self, chain: Sequence[str], directory: Path, *, within: IoV, names: Iterable[str] | None = None) -> Path:
        """Write what ``chain`` (last has the highest priority) resolves to in ``within`` as a testing payload storage.

        Names that are valid in no run of ``within`` are left out; an export that is complete is left as it is.

        Returns:
            The ``database.txt`` in ``directory``; the payload files lie beside it.
        """

    # Publishing

    @abstractmethod
    def apply(self, document: PlanDocument, release: Release, *, lease: Lease | None = None) -> tuple[TagIov, ...]:
        """Carry the plan out, and return the links it closed or created, as read back.

        The same document again is harmless: what was applied is not applied twice, what was broken off is completed.

        Raises:
            ConflictError: the target's fingerprint is no longer the plan's, it has the wrong state, or a running update
                would change the past; nothing was changed.
            DataError: there is no payload of a name and revision, or other content than the plan says; or the plan is
                a running update and a payload it adds has no complete provenance; nothing was changed.
        """

    @abstractmethod
    def lease(self, tag: str, *, holder: str, seconds: float) -> Lease:
        """The right to be the only one to change the tag for that long; asked by the holder again, it is prolonged.

        Raises:
            ConflictError: somebody else has it; the message says who and until when.
        """

    @abstractmethod
    def end_lease(self, lease: Lease) -> None:
        """Give the right back; harmless when it has passed to another meanwhile."""

    # The record

    @abstractmethod
    def record_provenance(self, records: Mapping[PayloadKey, Provenance], *, author: str) -> None:
        """Keep where payloads come from; of several records of one payload the last counts, the others stay."""

    @abstractmethod
    def provenance(self, wanted: Iterable[PayloadKey]) -> Mapping[PayloadKey, Provenance]:
        """(name, md5) to the record that counts, for those that have one."""

    @abstractmethod
    def note(self, tag: str, *, action: str, release: Release, detail: str, plan_hash: str | None = None) -> AuditEntry:
        """Append a line to the audit log that changes nothing else: an approval, a verification, an end.

        ``detail`` is JSON.
        """

    @abstractmethod
    def audit(self, tag: str | None = None, *, since: int = 0) -> tuple[AuditEntry, ...]:
        """The lines after the line ``since``, of one tag or of all, oldest first."""


class SafeRunSource(ABC):
    """Knows which data were processed already, so that their constants must not change any more."""

    @abstractmethod
    def last_processed(self, target: str) -> tuple[ExpRun, str] | None:
        """The last run that was processed with the tag, and where this is known from; ``None`` when none was."""


class RunRegistry(ABC):
    """The list of the detector's runs."""

    @abstractmethod
    def add(self, records: Iterable[RunRecord]) -> int:
        """Register runs, or bring known ones up to date; returns how many were new or changed. Idempotent."""

    @abstractmethod
    def changes(self, cursor: int, limit: int = 1000) -> tuple[tuple[RunRecord, ...], int]:
        """Runs registered or changed after ``cursor`` (0: since ever), oldest change first, and the new cursor."""

    @abstractmethod
    def runs(
        self, within: IoV | None = None, *, limit: int | None = None, registered_by: datetime | None = None
    ) -> tuple[RunRecord, ...]:
        """The runs in ``within``, ends included, in order.

        Args:
            within: by default all runs.
            limit: at most so many, the first ones.
            registered_by: only runs that were registered for the first time by then; as they are known now.
        """

    @abstractmethod
    def registrations(self, within: IoV) -> Mapping[ExpRun, datetime]:
        """When each run in ``within`` was registered for the first time, in UTC; runs of before that was kept lack."""

    @abstractmethod
    def last_change(self, within: IoV) -> int:
        """A number that grows whenever a run in ``within`` is registered or changed; 0 while there is none."""


class RunSource(ABC):
    """A list of runs that others keep, to be read only; its runs have no files."""

    @abstractmethod
    def page(
        self, within: IoV | None = None, *, started_since: datetime | None = None, token: str = ""
    ) -> tuple[tuple[RunRecord, ...], str]:
        """Some of the runs that have ended, in any order, and the token of the next page.

        Args:
            within: only runs in it, ends included; by default all.
            started_since: only runs that started on that day or later.
            token: as it was given with the page before, in a question that is the same otherwise; empty for the first
                page, and given when there is no other.

        Raises:
            BackendError: the list cannot be read; ``transient`` when asking later may help.
            RightsError: we may not read it.
            DataError: it tells of a run that cannot be read.
        """


class CampaignStore(ABC):
    """Campaigns, the catalogues they use, and the book of their buckets."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The campaigns, by name."""

    @abstractmethod
    def campaign(self, name: str) -> Campaign:
        """The campaign; ``ConfigurationError`` when there is none or its file is not valid."""

    @abstractmethod
    def save_campaign(self, text: str, *, author: str = "b2cal") -> Campaign:
        """Check a campaign's YAML text, log who gives it, and keep it."""

    @abstractmethod
    def versions(self, name: str) -> tuple[CampaignVersion, ...]:
        """Every text that a campaign was given, in order, none ever removed."""

    @abstractmethod
    def states(self) -> Mapping[str, CampaignState]:
        """Every campaign that has a file, and whether it works; a file that is not valid is listed too."""

    @abstractmethod
    def changes(self, name: str) -> tuple[CampaignChange, ...]:
        """Who changed the state of a campaign, in order."""

    @abstractmethod
    def change_state(self, change: CampaignChange) -> None:
        """Log a change of a campaign's state.

        Raises:
            ConfigurationError: there is no such campaign, or its tags are another's now; nothing was changed.
        """

    @abstractmethod
    def catalogue(self, release: str) -> Catalogue:
        """The catalogue of a release; ``ConfigurationError`` when there is none."""

    @abstractmethod
    def scripts(self, release: str) -> Path:
        """The directory with the scripts of a release."""

    @abstractmethod
    def buckets(self, campaign: str) -> tuple[Bucket, ...]:
        """The campaign's buckets in order."""

    @abstractmethod
    def book(self, campaign: str) -> tuple[BookedBucket, ...]:
        """The buckets in order, with who closed them and when."""

    @abstractmethod
    def add_bucket(self, campaign: str, bucket: Bucket, *, closed_by: str) -> Bucket:
        """Book a bucket; the same one again is harmless, one that overlaps another raises ``ConflictError``."""


class SignOffLog(ABC):
    """The append-only log of decisions."""

    @abstractmethod
    def record(self, decision: SignOff) -> None:
        """Append a decision."""

    @abstractmethod
    def decisions(
        self, campaign: str, bucket: str | None = None, calibration: str | None = None
    ) -> tuple[SignOff, ...]:
        """Decisions in the order they were logged."""

    @abstractmethod
    def choose(self, choice: ShortageChoice) -> None:
        """Append what is done about a calibration that has not enough data."""

    @abstractmethod
    def choices(self, campaign: str, bucket: str) -> tuple[ShortageChoice, ...]:
        """What was chosen for calibrations of a bucket that had not enough data, in the order it was logged."""

    @abstractmethod
    def logged_since(self, mark: str = "") -> tuple[frozenset[tuple[str, str]], str]:
        """Campaign and bucket of everything logged since a mark, which an earlier call returned, and the next mark."""


class Notifier(ABC):
    """A way to reach people: a log, mail, a chat."""

    @abstractmethod
    def tell(self, notice: Notice) -> None:
        """Hand the notice over.

        Raises:
            BackendError: it could not be delivered, or not to all; ``transient`` when trying later may help.
            ConfigurationError: nobody can be reached like this; whoever set the channel up acts.
        """

    def tells_each(self) -> bool:
        """Whether those who are to hear a notice are told one by one, each in a call of their own.

        Raises:
            ConfigurationError: the channel cannot be used as it is.
        """
        return False


@dataclass(frozen=True, slots=True)
class Channel:
    """A notifier, and what is told by it."""

    notifier: Notifier
    kinds: frozenset[NoticeKind] = frozenset(NoticeKind)


class TicketSystem(ABC):
    """Where tickets are kept for people."""

    @abstractmethod
    def check(self) -> str:
        """The address at which people find the tickets; raises like ``keep`` when they cannot be reached."""

    @abstractmethod
    def unknown(self, accounts: Iterable[str]) -> tuple[str, ...]:
        """Those of the accounts that nobody has, in order: their tickets are nobody's. Raises like ``keep``."""

    @abstractmethod
    def keep(self, ticket: Ticket, known: TicketReference | None = None) -> TicketReference:
        """Make the ticket, or make the one that there is equal to it; asked again, also after a kill, nothing doubles.

        What people did to the ticket stays: other labels, comments, another assignee.

        Args:
            ticket: as it should stand.
            known: what ``keep`` returned before, which spares looking for it; the ticket may be gone since.

        Raises:
            BackendError: the system does not answer or is overloaded; ``transient`` when trying later may help.
            ConfigurationError: it does not let us do that; whoever set it up acts.
        """


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice on one channel."""

    key: str
    channel: str


@dataclass(frozen=True, slots=True)
class KeptTicket:
    """A ticket as it was kept last: where it is, and the digest of what it was to be."""

    reference: TicketReference
    digest: str


class NoticeBook(ABC):
    """Remembers which notices were told and which tickets stand, over restarts and kills. Times are UTC."""

    @abstractmethod
    def due(self, deliveries: Sequence[Delivery], now: datetime) -> tuple[Delivery, ...]:
        """Those that were not told and may be tried now, least tried first, else in order."""

    @abstractmethod
    def begin(self, delivery: Delivery) -> bool:
        """Note that it is about to be told; whether it may have arrived before, because that attempt was cut off."""

    @abstractmethod
    def told(self, delivery: Delivery, when: datetime) -> None:
        """Note that it has arrived."""

    @abstractmethod
    def failed(self, delivery: Delivery, why: str, now: datetime) -> None:
        """Note that it did not arrive; it is due again after one minute, then two, four … up to an hour."""

    @abstractmethod
    def undelivered(self) -> Mapping[Delivery, str]:
        """What was tried and has not arrived, with the last reason."""

    @abstractmethod
    def tickets(self, keys: Iterable[str]) -> Mapping[str, KeptTicket]:
        """Ticket key to what was kept, for those that were."""

    @abstractmethod
    def keep_ticket(self, key: str, kept: KeptTicket) -> None:
        """Note how a ticket was kept."""

    @abstractmethod
    def settled(self, campaign: str) -> Mapping[str, str]:
        """Bucket key to the version of it of which all was told, as ``settle`` was given it."""

    @abstractmethod
    def settle(self, campaign: str, bucket: str, version: str) -> None:
        """Note that all is told of this version of a bucket."""
