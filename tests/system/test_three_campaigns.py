"""Three campaigns at once on MariaDB, under the real service, while the service and the database are killed.

Runs of three experiments arrive over time; some are bad, short or late. Two calibrations fail, a result is rejected, a
run's quality changes. In the end everything is published, or says what it waits for, and nothing was done twice.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from real_catalogue import b2cal
from servers.mariadb import MariaDBServer
from service_home import Service, running_service
from three_campaigns import CHANGED, EXPERIMENTS, World, changed, write_world

from b2cal_assets.asset_keys import Part, calibration_key, published_key
from b2cal_assets.bucket_runs import quiet_instance
from b2cal_core.ranges import ExpRun
from resources.deployment import registry_address
from resources.runs.embedded import EmbeddedRunRegistry

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]
PATIENCE = 900.0
TOGETHER, PAUSE = 20, 1.0
"""Runs that arrive at a time, and the seconds until the next ones do."""
FIRST, SECOND = "e0014r00001-e0014r00051", "e0014r00052-e0014r00100"
FAILED, SHORT = "e0013r00027-e0013r00051", "e0014r00001-e0014r00026"


@pytest.fixture
def world(tmp_path: Path, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> World:
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "deployment.yaml").write_text("storage: {database: 'env:B2CAL_STORAGE'}\n")
    monkeypatch.setenv("B2CAL_STORAGE", f"{mariadb.new_database()}&ssl_disabled=true")
    return write_world(directory)


def test_everything_is_published_or_says_what_it_waits_for(world: World, mariadb: MariaDBServer) -> None:
    arrivals = world.arrivals(TOGETHER)
    with running_service(world.home) as service:
        arrive(world, arrivals, times=5)
        until(service, world, "the first bucket", lambda: len(published(world, "prompt")) > 0)
        mariadb.kill()
        arrive(world, iter(()), times=1)
        mariadb.restart()
        arrive(world, arrivals, times=4)
        service.kill()
    with running_service(world.home) as service:
        arrive(world, arrivals, times=20)
        close_what_is_left(world, service)
        people_decide(world, service)
        until(service, world, "the end of all work", lambda: is_at_rest(world, service))
    check(world)


def arrive(world: World, arrivals: Iterator[Any], *, times: int) -> None:
    registry = EmbeddedRunRegistry(registry_address(world.home))
    for _ in range(times):
        if (group := next(arrivals, None)) is not None:
            registry.add(group)
        time.sleep(PAUSE)


def close_what_is_left(world: World, service: Service) -> None:
    """The last runs of each campaign fill no bucket; a manager closes it when the sensor has booked all others."""
    for campaign, full in {"prompt": 11, "recalibration": 3, "simulation": 1}.items():
        until(service, world, f"buckets of {campaign}", lambda c=campaign, n=full: len(buckets(world, c)) >= n)
        b2cal(world.home, "bucket", "close", campaign)
    EmbeddedRunRegistry(registry_address(world.home)).add(world.late)


def people_decide(world: World, service: Service) -> None:
    """The expert rejects one result and accepts what is redone; a shifter spoils a run of the other bucket."""
    until(service, world, "results to be judged", lambda: open_sign_offs(world) == {FIRST, SECOND})
    before = evidence(world)
    setting = ("--reason", "second look", "--redo-with", 'expert_config={"version": 2}')
    b2cal(world.home, "signoff", "reject", "simulation", FIRST, "Alpha", *setting)
    spoiled = next(record for record in world.records if record.run == ExpRun(14, CHANGED))
    EmbeddedRunRegistry(registry_address(world.home)).add([changed(spoiled)])
    until(
        service,
        world,
        "both results made anew",
        lambda: len(evidence(world).items() - before.items()) == 2 and open_sign_offs(world) == {FIRST, SECOND},
    )
    for bucket in (FIRST, SECOND):
        b2cal(world.home, "signoff", "accept", "simulation", bucket, "Alpha", "--reason", "fine")


def check(world: World) -> None:
    """What must be true in the end."""
    assert len(buckets(world, "prompt")) == 4 * len(EXPERIMENTS)
    assert published(world, "recalibration") == set(buckets(world, "recalibration"))
    assert published(world, "simulation") == {FIRST, SECOND}
    first_blocked = buckets(world, "prompt").index(FAILED)
    assert published(world, "prompt") == set(buckets(world, "prompt")[:first_blocked])
    for campaign in ("prompt", "recalibration", "simulation"):
        for bucket in buckets(world, campaign):
            left = [cell for cell in cells(world, campaign, bucket) if cell["state"] != "made"]
            assert all(cell["reasons"] for cell in left), left
    assert "did not converge" in reason(world, FAILED, "beta/payloads")
    assert "Gamma has not enough data" in reason(world, SHORT, "gamma/payloads")
    check_nothing_was_done_twice(world)


def check_nothing_was_done_twice(world: World) -> None:
    times = {FIRST: 2, SECOND: 2}  # these were rejected, and made from a run that changed
    with quiet_instance(world.home.dagster_home) as instance:
        for campaign in ("prompt", "recalibration", "simulation"):
            made = calibration_key(campaign, "Alpha", Part.payloads)
            for bucket in buckets(world, campaign):
                assert count(instance, made, bucket) == (times[bucket] if campaign == "simulation" else 1), bucket
                assert count(instance, published_key(campaign), bucket) <= 1
    assert plans(world, "data_prompt") == len(published(world, "prompt"))


def count(instance: dg.DagsterInstance, key: dg.AssetKey, bucket: str) -> int:
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[bucket])
    return len(instance.fetch_materializations(wanted, limit=5).records)


def plans(world: World, tag: str) -> int:
    """How often something was published into a tag."""
    return len(b2cal(world.home, "cdb", "history", tag))


def buckets(world: World, campaign: str) -> list[str]:
    return [entry["bucket"] for entry in b2cal(world.home, "bucket", "list", campaign)["buckets"]]


def cells(world: World, campaign: str, bucket: str) -> list[dict[str, Any]]:
    return list(b2cal(world.home, "bucket", "why", campaign, bucket)["cells"])


def reason(world: World, bucket: str, asset: str) -> str:
    return " ".join(r for c in cells(world, "prompt", bucket) if c["asset"] == f"prompt/{asset}" for r in c["reasons"])


def published(world: World, campaign: str) -> set[str]:
    with quiet_instance(world.home.dagster_home) as instance:
        return set(instance.get_materialized_partitions(published_key(campaign)))


def open_sign_offs(world: World) -> set[str]:
    return {entry["bucket"] for entry in b2cal(world.home, "signoff", "open", "simulation")}


def evidence(world: World) -> dict[str, str]:
    return {entry["bucket"]: entry["evidence"] for entry in b2cal(world.home, "signoff", "open", "simulation")}


def is_at_rest(world: World, service: Service) -> bool:
    """Whether nothing runs, and what should be published is."""
    busy = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}
    if any(run["status"] in busy for run in service.runs()):
        return False
    done = [published(world, campaign) for campaign in ("prompt", "recalibration", "simulation")]
    return [len(one) for one in done] == [5, 4, 2] and bool(reason(world, SHORT, "gamma/payloads"))


def until(service: Service, world: World, what: str, condition: Any) -> None:
    """Wait; what everything waits for is in the message when it never comes true."""
    try:
        service.wait_until(what, condition, seconds=PATIENCE)
    except AssertionError as error:
        for campaign in ("prompt", "recalibration", "simulation"):
            for bucket in buckets(world, campaign):
                left = [c for c in cells(world, campaign, bucket) if c["state"] != "made"]
                error.add_note(f"{campaign} {bucket}: {[(c['asset'], c['state'], c['reasons']) for c in left]}")
        raise
