"""What the benchmark of run intake calls, each in a process of its own: runs are registered, and ticks take them in."""

import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from b2cal_assets.campaign_assets import bucket_job
from b2cal_assets.collecting_ahead import ahead_job
from b2cal_assets.definitions import embedded_workshop, reference_plan
from b2cal_assets.partitions import RUNS
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import BucketPolicy
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import DataFile, RunRecord
from resources.home import Home
from sensors.new_runs import new_runs_sensor

_PER_EXPERIMENT, _PER_BUCKET, _CHUNK = 4000, 350, 5000
_FILES = (("hadron_calib", 3), ("mumu_tight_or_highm_calib", 2), ("bhabha_all_calib", 2))
_TICK_SECONDS = 2.0
"""That a tick of the cold intake goes on with new runs; more ticks tell more of the memory."""
_TABLES = sa.MetaData()
_BARE = sa.Table(
    "bare_runs",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("partition", sa.String(64), nullable=False, unique=True),
    sa.Column("document", sa.Text(2**24 - 1), nullable=False),
    sa.Column("event", sa.Text(2**24 - 1), nullable=False),
)


def records(first: int, count: int, quality: str = "Good") -> Iterator[RunRecord]:
    """Runs of a few experiments with seven files each, one after the other."""
    for number in range(first, first + count):
        exp, run = 7 + number // _PER_EXPERIMENT, 1 + number % _PER_EXPERIMENT
        started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
        files = tuple(
            DataFile(f"/data/e{exp:04d}/r{run:05d}/{tag}/raw/f{i}.root", tag, "raw", 20_000, 10**9, f"{number:063x}{i}")
            for tag, files in _FILES
            for i in range(files)
        )
        ended = started + timedelta(minutes=50)
        yield RunRecord(ExpRun(exp, run), "physics", "4S", "On", frozenset({quality}), started, ended, files)


def register(home: str, runs: int) -> dict[str, float]:
    """Register the runs; the seconds and processor time that takes, without making them up."""
    registry, seconds, cpu = workshop_of(home).runs, 0.0, 0.0
    registry.last_change(IoV(0, 0, -1, -1))  # its tables are made
    for first in range(0, runs, _CHUNK):
        chunk = list(records(first, min(_CHUNK, runs - first)))
        before, own = time.perf_counter(), time.process_time()
        registry.add(chunk)
        seconds, cpu = seconds + time.perf_counter() - before, cpu + time.process_time() - own
    return {"seconds": seconds, "cpu": cpu}


def bare(address: str, runs: int) -> None:
    """The peer: a row for each run, with as much text as the registry and the event log keep of it."""
    engine = sa.create_engine(address)
    _TABLES.create_all(engine)
    for first in range(0, runs, _CHUNK):
        numbers = range(first, min(first + _CHUNK, runs))
        rows = [{"partition": f"{number:012d}", "document": "d" * 1700, "event": "e" * 1900} for number in numbers]
        with engine.begin() as connection:
            connection.execute(_BARE.insert(), rows)
    engine.dispose()


def take_in(home: str, runs: int) -> dict[str, Any]:
    """Tick until all runs are partitions and their buckets are booked, then until all work on these is asked for.

    What each tick took, and the memory after it; ``cpu`` is of the first kind alone.
    """
    workshop = workshop_of(home)
    sensor = _sensor(workshop)
    ticks: list[float] = []
    memory: list[float] = []
    asking: list[float] = []
    cursor, cpu, asked = "", 0.0, 1
    with instance_of(home) as instance:
        while asked or int(cursor or 0) < runs:
            intake = int(cursor or 0) < runs
            own = time.process_time()
            seconds, answer = _timed(sensor, workshop, instance, cursor or None)
            cpu += time.process_time() - own if intake else 0.0
            (ticks if intake else asking).append(seconds)
            memory.append(_memory())
            cursor, asked = str(answer.cursor), _carry_out(instance, answer)
        _expect(len(instance.get_dynamic_partitions(str(RUNS.name))), runs, "partitions")
    buckets = len(workshop.campaigns.buckets(reference_plan().name))
    return {"ticks": ticks, "asking": asking, "memory": memory, "buckets": buckets, "cursor": cursor, "cpu": cpu}


def steady(home: str, runs: int, cursor: str, ticks: int) -> dict[str, Any]:
    """Seconds of ticks on top of them: without news, with five new runs, and with five whose quality changed."""
    workshop, found, cpu = workshop_of(home), dict[str, list[float]](), dict[str, list[float]]()
    sensor = _sensor(workshop)
    with instance_of(home) as instance:
        _timed(sensor, workshop, instance, cursor)  # what the first one loads is not of the tick
        memory = [_memory()]
        for number in range(ticks):
            news: dict[str, Iterable[RunRecord]] = {
                "no news": (),
                "5 new runs": records(runs + 5 * number, 5),
                "5 runs of another quality": records(number * 97 % (runs - 5), 5, quality="Bad For Alignment"),
            }
            for kind, changed in news.items():
                workshop.runs.add(changed)
                own = time.process_time()
                seconds, answer = _timed(sensor, workshop, instance, cursor)
                cpu.setdefault(kind, []).append(time.process_time() - own)
                _carry_out(instance, answer)
                cursor = str(answer.cursor)
                found.setdefault(kind, []).append(seconds)
            memory.append(_memory())
    return {"seconds": found, "cpu": cpu, "grown": statistics.mean(memory[-3:]) - memory[0]}


def _timed(
    sensor: dg.SensorDefinition, workshop: Workshop, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[float, dg.SensorResult]:
    before = time.perf_counter()
    answer = _tick(sensor, workshop, instance, cursor)
    return time.perf_counter() - before, answer


def _sensor(workshop: Workshop) -> dg.SensorDefinition:
    plan = reference_plan()
    campaign = plan.campaign.model_copy(update={"buckets": BucketPolicy(runs=_PER_BUCKET)})
    plan = replace(plan, campaign=campaign)
    jobs = [bucket_job(plan, dg.in_process_executor), ahead_job(plan, dg.in_process_executor, workshop)]
    return new_runs_sensor([plan], jobs, intake_seconds=_TICK_SECONDS)


def _tick(
    sensor: dg.SensorDefinition, workshop: Workshop, instance: dg.DagsterInstance, cursor: str | None
) -> dg.SensorResult:
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"workshop": workshop}) as context:
        answer = sensor(context)
    if not isinstance(answer, dg.SensorResult):
        raise TypeError(f"the sensor could not look: {answer}")
    return answer


def _carry_out(instance: dg.DagsterInstance, answer: dg.SensorResult) -> int:
    """What the daemon does with an answer; the Dagster runs end well at once. How many buckets were asked for."""
    for request in answer.dynamic_partitions_requests or ():
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    buckets = 0
    for wanted in answer.run_requests or ():
        tags = dict(wanted.tags) | {"dagster/run_key": str(wanted.run_key)}
        tags |= {"dagster/partition": wanted.partition_key} if wanted.partition_key else {}
        job = _nothing(str(wanted.job_name))
        instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.SUCCESS)
        buckets += wanted.partition_key is not None
    return buckets


@cache
def _nothing(name: str) -> dg.JobDefinition:
    """Stands for the job of that name, whose work is not measured here."""
    return dg.GraphDefinition(name=name, node_defs=[]).to_job()


def workshop_of(home: str) -> Workshop:
    """The embedded adapters over a home."""
    return embedded_workshop(Home(Path(home)))


@contextmanager
def instance_of(home: str) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of a home, as its ``dagster.yaml`` has it."""
    with dg.DagsterInstance.from_config(str(Home(Path(home)).dagster_home)) as instance:
        yield instance


def _memory() -> float:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024


def _expect(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise ValueError(f"{found} {what} where {expected} are expected; the figures would mean nothing")
