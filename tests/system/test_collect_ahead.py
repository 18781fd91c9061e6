"""Runs are collected while their bucket is open; when it closes only the algorithms remain."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from service_home import prepare_home

from b2cal_assets.bucket_runs import BucketRunner, quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.collecting_ahead import ahead_job_name
from b2cal_assets.definitions import build_definitions, embedded_workshop
from b2cal_cli.simulation import Simulation, simulate_runs
from b2cal_core.buckets import Bucket
from b2cal_core.ranges import ExpRun
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

BUCKET = Bucket(ExpRun(12, 1), ExpRun(12, 3))


def collect_ahead(home: Home, instance: dg.DagsterInstance) -> None:
    job = build_definitions(home, executor=dg.in_process_executor).resolve_job_def(ahead_job_name("prompt"))
    assert job.execute_in_process(instance=instance).success


def collected(instance: dg.DagsterInstance, part: str) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(dg.AssetKey(["prompt", part, "collector_output"]))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


@pytest.mark.system
@pytest.mark.timeout(900)
def test_each_run_is_collected_once_as_it_arrives_and_nothing_is_left_for_the_closing(tmp_path: Path) -> None:
    home = prepare_home(tmp_path / "home", runs=2, bucket_runs=3)
    plan = CampaignPlan.read(FileCampaignStore(home), "prompt")
    with quiet_instance(home.dagster_home) as instance:
        collect_ahead(home, instance)
        embedded_workshop(home).runs.add(simulate_runs(Simulation(1, 12, 3, 1, scale=0.5), home.data).records)
        collect_ahead(home, instance)
        outputs = sorted(path for path in home.cache.rglob("*.root"))
        assert len(outputs) == 4  # two sub-jobs each time, of the new files only
        outcome = BucketRunner(plan, embedded_workshop(home), instance=instance).work(BUCKET, only=["caf_svd_time"])
        assert outcome.ok, outcome.failed
        told = collected(instance, "caf_svd_time")
    assert (told["jobs"], told["jobs found in the cache"]) == (0, 4)
    assert sorted(path for path in home.cache.rglob("*.root")) == outputs
