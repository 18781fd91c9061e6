"""A replay from its list of runs to the last bucket that can be published. Started again, it goes on where it was."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import dagster as dg
from filelock import FileLock, Timeout

from b2cal_assets.bucket_runs import cancel_dead_runs, quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.definitions import embedded_workshop, read_plans
from b2cal_assets.workshop import Workshop
from b2cal_caf.scripts import read_catalogue
from b2cal_cli.demo_setup import CAMPAIGN_FILE, SCRIPTS, prepare_campaign, publish_nominal
from b2cal_cli.output import tell
from b2cal_cli.progress_listener import ProgressListener
from b2cal_cli.replay_feed import Feed
from b2cal_cli.replay_list import Disorder, arrivals
from b2cal_cli.replay_loop import SensorLoop
from b2cal_cli.replay_report import ReplayReport, report_on
from b2cal_cli.run_files import problems_of
from b2cal_cli.simulation import Simulation, simulate_runs
from b2cal_core.errors import ConflictError, DataError
from b2cal_core.runs import RunRecord
from resources.campaigns.files import FileCampaignStore, parse_campaign
from resources.home import Home
from resources.runs.records import read_records

_TURN_SECONDS = 1.0
"""Between two looks at sensors that asked for nothing."""
_QUIET_SECONDS = 75.0
"""When the service had nothing to do for so long, more than two ticks of its sensors, nothing more is to come."""
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What is replayed, and how.

    Attributes:
        file: the recorded runs; without it ``generate`` runs are simulated, spread over ``experiments``.
        speed: how many times faster than the detector.
        campaign: file of the campaign that the home gets, if it is not the demo's.
        bucket_runs: of the demo's campaign.
        by_service: whether a running ``b2cal up`` does the work.
    """

    file: Path | None = None
    generate: int = 0
    experiments: tuple[int, ...] = (12,)
    scale: float = 1.0
    speed: float = 100.0
    disorder: Disorder = field(default_factory=Disorder)
    campaign: Path | None = None
    bucket_runs: int | None = None
    by_service: bool = False


def run_replay(home: Home, options: ReplayOptions) -> ReplayReport:
    """Replay what is not done yet, and report on all of it.

    Raises:
        ConflictError: another replay works on the same home.
        DataError: recorded runs have files that are not there.
    """
    with _alone(home):
        listener = ProgressListener(tell)
        workshop = embedded_workshop(home, listener)
        feed = Feed(home, arrivals(_records(home, options, listener), options.disorder), options.speed)
        _prepare(home, options, workshop)
        plans, _ = read_plans(FileCampaignStore(home))
        with quiet_instance(home.dagster_home) as instance:
            with _feeding(feed, listener) as tell_arrivals:
                if options.by_service:
                    _await_service(feed, instance, tell_arrivals)
                else:
                    _work(feed, plans, workshop, instance=instance, listener=listener, tell_arrivals=tell_arrivals)
            return report_on(plans, workshop, instance=instance, runs=feed.total)


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    lock = FileLock(home.path / "replay.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        message = f"a replay is running on {home.path}; wait for its end or choose another --home"
        raise ConflictError(message) from error
    try:
        yield
    finally:
        lock.release()


def _records(home: Home, options: ReplayOptions, listener: ProgressListener) -> tuple[RunRecord, ...]:
    if options.file is None:
        return _simulated(home, options, listener)
    records = tuple(read_records(options.file))
    problems = [f"{record.run}: {found[0]}" for record in records if (found := problems_of(record))]
    if problems:
        raise DataError(
            f"{len(problems)} runs of {options.file} cannot be replayed, because their files are not as they were; "
            "bring them back, or replay a list without these runs:\n" + "\n".join(problems)
        )
    return records


def _simulated(home: Home, options: ReplayOptions, listener: ProgressListener) -> tuple[RunRecord, ...]:
    """Runs of the reference detector, as many in each experiment, the first ones having one more if need be."""
    whole, more = divmod(options.generate, len(options.experiments))
    records: list[RunRecord] = []
    for number, exp in enumerate(options.experiments):
        count = whole + (number < more)
        if count:
            simulation = Simulation(options.disorder.seed, exp, 1, count, options.scale)
            records += simulate_runs(simulation, home.data, advanced=partial(_tell_simulated, listener, exp)).records
    return tuple(records)


def _tell_simulated(listener: ProgressListener, exp: int, done: int, total: int) -> None:
    listener.line(f"simulating runs of experiment {exp}: {done} of {total} are there")


def _prepare(home: Home, options: ReplayOptions, workshop: Workshop) -> None:
    """The campaign, unless the home has one of its name, and what the reference detector's campaigns start from."""
    store = FileCampaignStore(home)
    shipped = parse_campaign(CAMPAIGN_FILE.read_text(encoding="utf-8"), str(CAMPAIGN_FILE))
    if options.campaign is None:
        campaign = prepare_campaign(store, bucket_runs=options.bucket_runs, batch=None)
    else:
        text = options.campaign.read_text(encoding="utf-8")
        campaign = parse_campaign(text, str(options.campaign))
        if campaign.catalogue == shipped.catalogue:
            store.save_catalogue(shipped.catalogue, read_catalogue(SCRIPTS), scripts=SCRIPTS)
        if campaign.name not in store.names():
            store.save_campaign(text)
    if campaign.catalogue == shipped.catalogue:
        publish_nominal(workshop.conditions, home, campaign.base_tags[0])


@contextmanager
def _feeding(feed: Feed, listener: ProgressListener) -> Iterator[Callable[[], None]]:
    """Runs come while the block lasts; what is given tells how many there are, when these are other than before."""
    told = -1

    def tell_arrivals() -> None:
        nonlocal told
        there = feed.total - len(feed.left())
        if there != told:
            told = there
            listener.line(f"{there} of {feed.total} runs are registered")

    feed.start()
    try:
        yield tell_arrivals
    finally:
        feed.stop()


def _work(
    feed: Feed,
    plans: Sequence[CampaignPlan],
    workshop: Workshop,
    *,
    instance: dg.DagsterInstance,
    listener: ProgressListener,
    tell_arrivals: Callable[[], None],
) -> None:
    for dead in cancel_dead_runs(instance):
        listener.line(f"the Dagster run {dead} of a replay that was killed is marked as failed")
    loop = SensorLoop(list(plans), workshop, instance=instance, listener=listener)
    while True:
        was_over = feed.is_over()
        tell_arrivals()
        if not loop.turn():
            if was_over:
                return
            time.sleep(_TURN_SECONDS)


def _await_service(feed: Feed, instance: dg.DagsterInstance, tell_arrivals: Callable[[], None]) -> None:
    """Return when all runs are there and the service has had nothing to do for a while."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _QUIET_SECONDS:
        tell_arrivals()
        if not feed.is_over() or instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED), limit=1):
            quiet_since = time.monotonic()
        time.sleep(_TURN_SECONDS)
