"""The demo from the first simulated run to published constants. Every step finds what a former demo finished."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import dagster as dg
from filelock import FileLock, Timeout

from b2cal_assets.asset_keys import published_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketOutcome, BucketRunner, cancel_dead_runs, quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.definitions import embedded_workshop
from b2cal_assets.workshop import Workshop
from b2cal_cli.bucket_working import uninterrupted
from b2cal_cli.demo_buckets import form_demo_buckets
from b2cal_cli.demo_clock import SIMULATION, DemoClock
from b2cal_cli.demo_closure import Closure, closures
from b2cal_cli.demo_report import BucketReport, CalibrationReport, DemoReport
from b2cal_cli.demo_setup import prepare_campaign, publish_nominal
from b2cal_cli.output import tell
from b2cal_cli.progress_listener import ProgressListener
from b2cal_cli.simulation import Simulation, simulate_runs
from b2cal_core.buckets import Bucket
from b2cal_core.errors import ConflictError
from b2cal_core.runs import RunRecord
from b2cal_detector.truth import Truth
from resources.campaigns.files import FileCampaignStore
from resources.conditions.deployed import open_embedded
from resources.conditions.publisher import Publisher
from resources.home import Home

_EXPERIMENT, _FIRST_RUN = 12, 1
_STEPS_OF_PUBLISHING = frozenset({"open IoVs closed", "new IoVs created"})


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What is simulated; ``bucket_runs`` is the number of counted runs in a bucket, ``batch`` where jobs run.

    Both are as the campaign file says when they are not given.
    """

    seed: int
    runs: int
    bucket_runs: int | None = None
    scale: float = 1.0
    batch: str | None = None


def run_demo(home: Home, options: DemoOptions) -> DemoReport:
    """Do everything that is not done yet, and report all of it.

    Raises:
        ConflictError: another demo works on the same home.
    """
    with _alone(home):
        return _Demo(home, options).run()


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    lock = FileLock(home.demo_lock)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        holder = home.demo_lock.with_suffix(".pid")
        who = f"process {holder.read_text().strip()}" if holder.is_file() else "another process"
        raise ConflictError(
            f"a demo is running on {home.path} ({who}); wait for its end or choose another --home"
        ) from error
    try:
        home.demo_lock.with_suffix(".pid").write_text(f"{os.getpid()}\n")
        yield
    finally:
        lock.release()


class _Demo:
    """One demo on one home."""

    def __init__(self, home: Home, options: DemoOptions) -> None:
        self._home, self._options = home, options
        self._clock = DemoClock()
        self._listener = ProgressListener(tell)
        conditions = open_embedded(home, on_step=self._tell_published)
        publisher = Publisher(conditions)
        workshop = replace(embedded_workshop(home, self._listener), conditions=conditions, publisher=publisher)
        self._workshop = self._clock.watch(workshop)

    def run(self) -> DemoReport:
        records, simulated = self._take_data()
        store = FileCampaignStore(self._home)
        campaign = prepare_campaign(store, bucket_runs=self._options.bucket_runs, batch=self._options.batch)
        publish_nominal(self._workshop.conditions, self._home, campaign.base_tags[0])
        plan = CampaignPlan.read(store, campaign.name)
        with quiet_instance(self._home.dagster_home) as instance:
            for dead in cancel_dead_runs(instance):
                self._listener.line(f"the Dagster run {dead} of a demo that was killed is marked as failed")
            buckets = form_demo_buckets(self._home, plan, self._workshop, instance=instance)
            self._listener.line(f"{len(records)} runs in {len(buckets)} buckets")
            outcomes = self._work(plan, buckets, instance)
            reports = tuple(
                self._report(plan, bucket, outcome, instance=instance) for bucket, outcome in outcomes.items()
            )
        return DemoReport(
            home=self._home.path,
            seed=self._options.seed,
            runs=len(records),
            simulated=simulated,
            campaign=plan.name,
            target_tag=plan.campaign.target_tag,
            buckets=reports,
            seconds=self._clock.split(),
        )

    def _take_data(self) -> tuple[tuple[RunRecord, ...], int]:
        """Simulate and register the runs; the records, and how many runs had to be simulated."""
        options = self._options
        simulation = Simulation(options.seed, _EXPERIMENT, _FIRST_RUN, options.runs, options.scale)
        with self._clock.timing(SIMULATION):
            simulated = simulate_runs(simulation, self._home.data, advanced=self._tell_simulated)
        self._workshop.runs.add(simulated.records)
        return simulated.records, simulated.made

    def _tell_published(self, step: str) -> None:
        if step in _STEPS_OF_PUBLISHING:
            self._listener.line(f"publishing, {step}")

    def _tell_simulated(self, done: int, total: int) -> None:
        self._listener.line(f"simulating runs: {done} of {total} are there")

    def _work(
        self, plan: CampaignPlan, buckets: tuple[Bucket, ...], instance: dg.DagsterInstance
    ) -> dict[Bucket, BucketOutcome]:
        runner = BucketRunner(plan, self._workshop, instance=instance)
        outcomes = {}
        for bucket in buckets:
            self._listener.subject(bucket.key)
            self._listener.line("bucket begins")
            outcomes[bucket] = uninterrupted(runner.work(bucket))
            self._listener.line("nothing was missing" if outcomes[bucket].dagster_run is None else "bucket ends")
        self._listener.subject("")
        return outcomes

    def _report(
        self,
        plan: CampaignPlan,
        bucket: Bucket,
        outcome: BucketOutcome,
        *,
        instance: dg.DagsterInstance,
    ) -> BucketReport:
        ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=self._workshop.sign_offs)
        found = _closures(plan, bucket, self._workshop, seed=self._options.seed)
        ordered = (*plan.raw_stage, *plan.cdst_stage)
        return BucketReport(
            bucket=bucket.key,
            calibrations=tuple(self._calibration(plan, bucket, name, ledger=ledger, found=found) for name in ordered),
            published=ledger.has(published_key(plan.name)),
            worked=outcome.dagster_run is not None,
            problems=_problems(outcome),
        )

    def _calibration(
        self,
        plan: CampaignPlan,
        bucket: Bucket,
        name: str,
        *,
        ledger: BucketLedger,
        found: Mapping[str, tuple[Closure, ...]],
    ) -> CalibrationReport:
        payloads, verdict = ledger.payloads(name), ledger.verdict(name)
        place = self._home.area(plan.campaign.site).request(plan.name, bucket, calibration=name)
        return CalibrationReport(
            name=name,
            made=payloads is not None,
            verdict=verdict.value if verdict else None,
            seconds=self._clock.calibrations.get((place.parent.name, place.name)),
            closures=tuple(closure for key in (payloads.names if payloads else ()) for closure in found.get(key, ())),
        )


def _problems(outcome: BucketOutcome) -> tuple[str, ...]:
    """What failed, and what is waited for; nothing that only comes later because of these."""
    waiting = (reason for reasons in outcome.blocked.values() for reason in reasons)
    return tuple(dict.fromkeys((*outcome.failed.values(), *waiting)))


def _closures(
    plan: CampaignPlan, bucket: Bucket, workshop: Workshop, *, seed: int
) -> Mapping[str, tuple[Closure, ...]]:
    tag = plan.staging_tag(bucket)
    if workshop.conditions.get_tag(tag) is None:
        return {}
    records = workshop.runs.runs(bucket.iov)
    return closures(workshop.conditions, tag, bucket, truth=Truth(seed), records=records)
