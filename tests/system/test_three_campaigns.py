"""Three campaigns at once on MariaDB, under the real service, while all its processes and the database are killed.

Runs of three experiments arrive over time; some are bad, short or late. Two calibrations fail, a result is rejected, a
run's quality changes. In the end everything is published, or says what it waits for, and nothing was done twice.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

import dagster as dg
import pytest
from real_catalogue import b2cal
from servers.mariadb import MariaDBServer
from service_home import Service, running_service
from three_campaigns import CAMPAIGNS, CHANGED, EXPERIMENTS, World, changed, write_world

from b2cal_assets.asset_keys import RAW_RUNS, Part, calibration_key, published_key
from b2cal_assets.bucket_cells import cells_of
from b2cal_assets.bucket_records import CONTENT
from b2cal_assets.bucket_runs import quiet_instance
from b2cal_cli.ledgers import ledger_of
from b2cal_core.buckets import Bucket
from b2cal_core.cells import Cell, CellState
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import RunRecord
from resources.campaigns.files import FileCampaignStore
from resources.deployment import registry_address
from resources.runs.embedded import EmbeddedRunRegistry
from sensors.dagster_runs import activity, runs_of_bucket

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]
PATIENCE = 600.0
TOGETHER, PAUSE = 20, 1.0
"""Runs that arrive at a time, and the seconds until the next ones do."""
AWAY = 5.0
"""Seconds that the database is away; longer than Dagster tries to reach it again."""
FIRST, SECOND = "e0014r00001-e0014r00051", "e0014r00052-e0014r00100"
"""The buckets of the simulation."""
FAILED, SHORT = "e0013r00036-e0013r00069", "e0014r00001-e0014r00035"
"""The buckets of prompt in which Beta does not converge, and in which Gamma has not enough data."""
BUSY = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}


@pytest.fixture
def world(tmp_path: Path, mariadb: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> World:
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "deployment.yaml").write_text("storage: {database: 'env:B2CAL_STORAGE'}\n")
    monkeypatch.setenv("B2CAL_STORAGE", f"{mariadb.new_database()}&ssl_disabled=true")
    return write_world(directory)


def test_everything_is_published_or_says_what_it_waits_for(world: World, mariadb: MariaDBServer) -> None:
    arrivals = world.arrivals(TOGETHER)
    arrive(world, islice(arrivals, 5))
    with running_service(world.home) as service:
        arrive(world, islice(arrivals, 3))
        until(service, world, "the first bucket", lambda: len(published(world, "prompt")) > 0)
        lose_database_and_worker(service, mariadb)
        arrive(world, islice(arrivals, 2))
        until(service, world, "work that goes on", lambda: is_at_work(service))
        service.kill()
    arrive(world, islice(arrivals, 2))
    with running_service(world.home) as service:
        arrive(world, arrivals)
        close_what_is_left(world, service)
        people_decide(world, service)
        until(service, world, "the end of all work", lambda: is_at_rest(world, service))
    check_what_is_published(world)
    check_what_waits(world)
    check_runs(world)
    check_nothing_was_done_twice(world)


def lose_database_and_worker(service: Service, mariadb: MariaDBServer) -> None:
    """Kill the database, and while it is away one of the processes that work Dagster runs, which nobody can record."""
    service.wait_until("work to be lost", lambda: bool(service.workers()), seconds=PATIENCE)
    mariadb.kill()
    for worker in service.workers()[:1]:
        worker.kill()
    time.sleep(AWAY)
    mariadb.restart()


def arrive(world: World, groups: Iterator[Sequence[RunRecord]]) -> None:
    registry = EmbeddedRunRegistry(registry_address(world.home))
    for group in groups:
        registry.add(group)
        time.sleep(PAUSE)


def is_at_work(service: Service) -> bool:
    """Whether Dagster runs are at work, and none is about to begin: the place of one that dies then is kept longer."""
    statuses = {run["status"] for run in service.runs()}
    return "STARTED" in statuses and "STARTING" not in statuses


def close_what_is_left(world: World, service: Service) -> None:
    """The last runs of each campaign fill no bucket; a manager closes it when the sensor has booked all others."""
    for campaign, full in {"simulation": 1, "recalibration": 2, "prompt": 8}.items():
        until(service, world, f"buckets of {campaign}", lambda c=campaign, n=full: len(buckets(world, c)) >= n)
        b2cal(world.home, "bucket", "close", campaign)


def people_decide(world: World, service: Service) -> None:
    """A run comes late, a shifter spoils one; of what is made anew the expert rejects one result, and accepts all."""
    until(service, world, "results to be judged", lambda: times_judged(world) == [1, 1])
    spoiled = next(record for record in world.records if record.run == ExpRun(EXPERIMENTS[-1], CHANGED))
    EmbeddedRunRegistry(registry_address(world.home)).add([*world.late, changed(spoiled)])
    until(service, world, "both results made anew", lambda: times_judged(world) == [2, 2])
    setting = ("--reason", "second look", "--redo-with", 'expert_config={"version": 2}')
    b2cal(world.home, "signoff", "reject", "simulation", FIRST, "Alpha", *setting)
    b2cal(world.home, "signoff", "accept", "simulation", SECOND, "Alpha", "--reason", "fine")
    until(service, world, "the rejected result made anew", lambda: times_judged(world) == [3, 2])
    b2cal(world.home, "signoff", "accept", "simulation", FIRST, "Alpha", "--reason", "fine")


def times_judged(world: World) -> list[int]:
    """How often the results of both buckets of the simulation were validated."""
    return [len(made(world, "simulation", "Alpha", bucket, Part.validation)) for bucket in (FIRST, SECOND)]


def is_at_rest(world: World, service: Service) -> bool:
    """Whether nothing runs, and what should be published is."""
    if any(run["status"] in BUSY for run in service.runs()):
        return False
    counts = [len(published(world, campaign)) for campaign in CAMPAIGNS]
    return counts == [4, 3, 2] and all(cell.state is not CellState.can_start for cell in all_left(world))


def check_what_is_published(world: World) -> None:
    """All of the recalibration and the simulation, and of prompt what comes before the calibration that failed."""
    assert [len(buckets(world, campaign)) for campaign in CAMPAIGNS] == [3 * len(EXPERIMENTS), 3, 2]
    assert published(world, "recalibration") == set(buckets(world, "recalibration"))
    assert published(world, "simulation") == {FIRST, SECOND} == set(buckets(world, "simulation"))
    first_blocked = buckets(world, "prompt").index(FAILED)
    assert published(world, "prompt") == set(buckets(world, "prompt")[:first_blocked])


def check_what_waits(world: World) -> None:
    """Every asset that is not made says why; the command line tells that of the calibrations that failed."""
    for bucket in buckets(world, "prompt"):
        left = cells_left(world, "prompt", bucket)
        assert bool(left) is (bucket not in published(world, "prompt"))
        assert all(cell.reasons for cell in left), left
    assert "did not converge" in reason(world, FAILED, "beta")
    assert "Gamma has not enough data" in reason(world, SHORT, "gamma")


def check_runs(world: World) -> None:
    """All runs were taken in, and late ones are where the policy of the campaign has them."""
    with quiet_instance(world.home.dagster_home) as instance:
        assert len(instance.get_materialized_partitions(RAW_RUNS)) == len(world.records)
    left_out = {
        campaign: b2cal(world.home, "bucket", "status", campaign, buckets(world, campaign)[0])["left_out"]
        for campaign in CAMPAIGNS
    }
    assert left_out == {"prompt": ["12/13"], "recalibration": ["12/13"], "simulation": []}


def check_nothing_was_done_twice(world: World) -> None:
    """No result was made twice of the same, nothing published twice, and no bucket worked twice at a time."""
    for campaign, bucket in ((c, b) for c in CAMPAIGNS for b in buckets(world, c)):
        for name in ("Alpha", "Beta", "Gamma") if campaign == "prompt" else ("Alpha",):
            contents = made(world, campaign, name, bucket, Part.payloads)
            assert len(set(contents)) == len(contents)
            assert len(contents) <= {FIRST: 3, SECOND: 2}.get(bucket, 1)
        check_one_worker_at_a_time(world, campaign, bucket)
    for campaign, settings in CAMPAIGNS.items():
        assert len(b2cal(world.home, "cdb", "history", settings["target_tag"])) == len(published(world, campaign))


def check_one_worker_at_a_time(world: World, campaign: str, bucket: str) -> None:
    with quiet_instance(world.home.dagster_home) as instance:
        wanted = dg.RunsFilter(tags={"dagster/partition": bucket, "b2cal/campaign": campaign})
        records = sorted(instance.get_run_records(wanted), key=lambda record: record.create_timestamp)
    for before, after in pairwise(records):
        assert before.end_time is not None
        assert after.create_timestamp.timestamp() >= before.end_time, (campaign, bucket)


def made(world: World, campaign: str, calibration: str, bucket: str, part: Part) -> list[str]:
    """What each version of the results of a calibration holds, as far as the part tells it."""
    key = calibration_key(campaign, calibration, part)
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[bucket])
    with quiet_instance(world.home.dagster_home) as instance:
        records = instance.fetch_materializations(wanted, limit=10).records
    metadata = [record.asset_materialization.metadata for record in records]
    return [str(entry[CONTENT].value) if CONTENT in entry else "" for entry in metadata]


def buckets(world: World, campaign: str) -> list[str]:
    return [bucket.key for bucket in sorted(FileCampaignStore(world.home).buckets(campaign))]


def reason(world: World, bucket: str, calibration: str) -> str:
    """Why the payloads are not made, as the command line has it."""
    cells = b2cal(world.home, "bucket", "why", "prompt", bucket, calibration)["cells"]
    (found,) = (cell for cell in cells if cell["asset"] == f"prompt/{calibration}/payloads")
    return " ".join(found["reasons"])


def published(world: World, campaign: str) -> set[str]:
    with quiet_instance(world.home.dagster_home) as instance:
        return set(instance.get_materialized_partitions(published_key(campaign)))


def cells_left(world: World, campaign: str, bucket: str) -> list[Cell]:
    """What is not made."""
    everyone = FileCampaignStore(world.home).buckets(campaign)
    with ledger_of(world.home, campaign, Bucket.from_key(bucket)) as opened:
        runs = runs_of_bucket(opened.instance, opened.plan, bucket)
        cells = cells_of(opened.ledger, everyone, activity(opened.instance, runs))
    return [cell for cell in cells if cell.state is not CellState.made]


def all_left(world: World) -> list[Cell]:
    return [cell for name in CAMPAIGNS for bucket in buckets(world, name) for cell in cells_left(world, name, bucket)]


def until(service: Service, world: World, what: str, condition: Callable[[], bool]) -> None:
    """Wait; what everything waits for is in the message when it never comes true."""
    try:
        service.wait_until(what, condition, seconds=PATIENCE)
    except AssertionError as error:
        for run in service.runs():
            error.add_note(str(run))
        for cell in all_left(world):
            error.add_note(f"{cell.name}: {cell.state} {cell.reasons}")
        raise
