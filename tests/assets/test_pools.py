"""Campaigns that share a Dagster pool: no more of their steps work at a time than it has places."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, FakeCaf, Laboratory, campaign_text, payload_names
from servers.mariadb import MariaDBServer

from b2cal_assets.assets.calibration import calibration_asset
from b2cal_assets.assets.cdst import cdst_asset
from b2cal_assets.assets.published import published_asset
from b2cal_assets.assets.validation import validation_asset
from b2cal_assets.bucket_runs import PROCESS_TAG, BucketRunner, cancel_dead_runs, quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.collecting_ahead import ahead_job
from b2cal_assets.instance_settings import prepare_dagster_home, store_dagster_in
from b2cal_cli.bucket_working import tell_full_pool
from b2cal_core.ports import CafObserver, CafRequest, CafResult

MakeLaboratory = Callable[..., Laboratory]
POOL = "centre"
LONGEST = 120.0


class MeetingCaf(FakeCaf):
    """Works until another of its kind works too, or is known to wait for a place, or has worked already.

    Attributes:
        most: how many worked at a time.
        met: how often one that worked knew that another one waited for its place.
    """

    def __init__(self, others_wait: Callable[[], bool]) -> None:
        super().__init__(payload_names())
        self._others_wait, self._lock = others_wait, threading.Lock()
        self.entered = threading.Event()
        self.inside = self.done = self.most = self.met = 0

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.entered.set()
        self._meet()
        result = super().run(request, observer)
        with self._lock:
            self.inside -= 1
            self.done += 1
        return result

    def _meet(self) -> None:
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            if self.most > 1 or self.done:
                return
            if self._others_wait():
                self.met += 1
                return
            time.sleep(0.05)
        raise AssertionError("nobody came")


def work_two_campaigns(laboratory: MakeLaboratory, *, pool: str | None, database: str | None = None) -> MeetingCaf:
    """The first calibration of one bucket in two campaigns at a time, where the pool has one place."""
    own = {"pool": pool} if pool else {}
    lab = laboratory(runs=4, campaign=own)
    lab.store.save_campaign(campaign_text(**own, name="again", target_tag="again_target"))
    prepare_dagster_home(lab.home.dagster_home)
    store_dagster_in(lab.home.dagster_home, database)

    def work(campaign: str) -> bool:
        with quiet_instance(lab.home.dagster_home) as instance:
            plan = CampaignPlan.read(lab.store, campaign)
            return BucketRunner(plan, lab.workshop(), instance=instance).work(BUCKET_1, only=["caf_cdc"]).ok

    with quiet_instance(lab.home.dagster_home) as instance, ThreadPoolExecutor(2) as threads:
        log = instance.event_log_storage
        log.set_concurrency_slots(POOL, 1)
        lab.caf = caf = MeetingCaf(lambda: log.get_concurrency_info(POOL).pending_step_count > 0)
        first = threads.submit(work, "prompt")
        assert caf.entered.wait(LONGEST)
        assert threads.submit(work, "again").result()
        assert first.result()
    return caf


@pytest.mark.parametrize("kept_in", ["SQLite", "MariaDB"])
def test_steps_of_two_campaigns_never_work_at_a_time_in_a_pool_of_one_place(
    laboratory: MakeLaboratory, mariadb: MariaDBServer, kept_in: str
) -> None:
    database = mariadb.new_database() if kept_in == "MariaDB" else None
    caf = work_two_campaigns(laboratory, pool=POOL, database=database)
    assert (caf.most, caf.done, caf.met) == (1, 2, 1)


def test_campaigns_that_name_no_pool_work_beside_each_other(laboratory: MakeLaboratory) -> None:
    caf = work_two_campaigns(laboratory, pool=None)
    assert (caf.most, caf.done) == (2, 2)


@pytest.mark.parametrize("pool", [POOL, None])
def test_what_puts_jobs_on_the_batch_system_is_in_the_pool_and_nothing_else(
    laboratory: MakeLaboratory, pool: str | None
) -> None:
    plan = laboratory(campaign={"pool": pool, "collect_ahead": True}).plan
    at_work = [*(calibration_asset(plan, name) for name in plan.calibrations), cdst_asset(plan)]
    ahead = ahead_job(plan, dg.in_process_executor, laboratory().workshop()).graph.node_defs
    assert {one.op.pool for one in at_work} == {op.pool for op in ahead} == {pool}
    others = [*(validation_asset(plan, name) for name in plan.calibrations), published_asset(plan)]
    assert {one.op.pool for one in others} == {None}


@dg.job
def some_job() -> None:
    """Stands for any job."""


def test_a_command_that_died_gives_its_place_back(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tags = {PROCESS_TAG: f"{os.uname().nodename}:{gone.pid}:17"}
    with quiet_instance(lab.home.dagster_home) as instance:
        log = instance.event_log_storage
        log.set_concurrency_slots(POOL, 1)
        dead = instance.create_run_for_job(some_job, status=dg.DagsterRunStatus.STARTED, tags=tags)
        assert log.claim_concurrency_slot(POOL, dead.run_id, "a_step").is_claimed
        assert not log.claim_concurrency_slot(POOL, "another", "a_step").is_claimed
        assert cancel_dead_runs(instance) == (dead.run_id,)
        assert log.claim_concurrency_slot(POOL, "another", "a_step").is_claimed


def test_the_service_frees_the_places_of_workers_that_died(laboratory: MakeLaboratory) -> None:
    home = prepare_dagster_home(laboratory().home.dagster_home)
    with quiet_instance(home) as instance:
        settings = instance.run_monitoring_settings
    assert (settings["enabled"], settings["free_slots_after_run_end_seconds"]) == (True, 60)


def test_who_works_a_bucket_is_told_when_its_pool_is_full(
    laboratory: MakeLaboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    with quiet_instance(laboratory().home.dagster_home) as instance:
        log = instance.event_log_storage
        log.set_concurrency_slots(POOL, 1)
        tell_full_pool(instance, POOL)
        tell_full_pool(instance, None)
        assert capsys.readouterr().err == ""
        assert log.claim_concurrency_slot(POOL, "another", "a_step").is_claimed
        tell_full_pool(instance, POOL)
    assert "pool centre: all 1 places are taken" in capsys.readouterr().err
