"""Working a bucket in this process, without a daemon: what is missing is made, what is there is left."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef  # the only way to override one part of an instance

from b2cal_assets.asset_keys import Part, calibration_key, step_name
from b2cal_assets.asset_specs import inputs_of
from b2cal_assets.bucket_inputs import report_runs, runs_of
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.campaign_assets import bucket_job, bucket_job_name, campaign_assets, run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.instance_settings import (
    keeps_own_record,
    prepare_dagster_home,
    telling_storage_failures,
)
from b2cal_assets.local_offers import SourceTags, report_offers
from b2cal_assets.partitions import bucket_partitions_name
from b2cal_assets.quiet_logging import quiet_logger
from b2cal_assets.workshop import Workshop
from b2cal_core.buckets import Bucket
from b2cal_core.errors import ConfigurationError

_NO_CAPTURE = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
PROCESS_TAG = "b2cal/process"
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class BucketOutcome:
    """How the work on a bucket ended; assets are named as in Dagster, ``campaign/calibration/part``.

    Attributes:
        done: made now, in order; ``found``: made before and left as they are.
        failed: step to the sentence that says why.
        blocked: assets whose inputs are made and whose gate is shut, each with the reasons.
        later: assets that come after something failed or blocked.
        dagster_run: the id of the Dagster run; ``None`` when there was nothing to do.
    """

    done: tuple[str, ...]
    found: tuple[str, ...]
    failed: Mapping[str, str]
    blocked: Mapping[str, tuple[str, ...]]
    later: tuple[str, ...] = ()
    dagster_run: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed; waiting for a person is no failure."""
        return not self.failed


class BucketRunner:
    """Works buckets of one campaign in this process, one after the other."""

    def __init__(self, plan: CampaignPlan, workshop: Workshop, *, instance: dg.DagsterInstance) -> None:
        self._plan, self._workshop, self._instance = plan, workshop, instance

    def work(self, bucket: Bucket, *, only_missing: bool = True, only: Sequence[str] = ()) -> BucketOutcome:
        """Make what the bucket lacks.

        Args:
            bucket: need not be a partition yet.
            only_missing: leave alone what was made before; otherwise all that is asked for is made again.
            only: calibrations by any of their names, ``cdst`` or ``published``; by default everything.
        """
        self._instance.add_dynamic_partitions(bucket_partitions_name(self._plan.name), [bucket.key])
        ledger = self._ledger(bucket)
        shop = self._workshop
        runs = runs_of(ledger, shop.runs, shop.campaigns, shop.publisher)
        tags = SourceTags(self._workshop.conditions)
        if report_runs(ledger, runs, self._instance) | report_offers(ledger, tags, self._instance):
            ledger = self._ledger(bucket)
        asked = self._asked_for(only)
        missing = [key for key in ledger.missing() if key in asked]
        wanted = missing if only_missing else asked
        if not wanted:
            return BucketOutcome((), tuple(map(_text, asked)), {}, {})
        result = self._job.execute_in_process(
            partition_key=bucket.key,
            instance=self._instance,
            asset_selection=wanted,
            raise_on_error=False,
            run_config={"loggers": {"quiet": {}}},
            tags=run_tags(self._plan) | {PROCESS_TAG: this_process()},
        )
        return self._outcome(bucket, asked, wanted=wanted, result=result)

    @cached_property
    def _job(self) -> dg.JobDefinition:
        definitions = dg.Definitions(
            assets=campaign_assets(self._plan),
            jobs=[bucket_job(self._plan, dg.in_process_executor)],
            resources={"workshop": self._workshop},
            loggers={"quiet": quiet_logger},
        )
        return definitions.resolve_job_def(bucket_job_name(self._plan.name))

    def _ledger(self, bucket: Bucket) -> BucketLedger:
        return BucketLedger(self._plan, bucket, instance=self._instance, sign_offs=self._workshop.sign_offs)

    def _asked_for(self, only: Sequence[str]) -> list[dg.AssetKey]:
        everything = self._plan.asset_keys()
        if not only:
            return list(everything)
        chosen: set[dg.AssetKey] = set()
        for word in only:
            whole = dg.AssetKey([self._plan.name, word])
            if whole in everything:
                chosen.add(whole)
                continue
            name = self._plan.catalogue.find(word)
            if name not in self._plan.calibrations:
                known = ", ".join(self._plan.calibrations)
                raise ConfigurationError(f"campaign {self._plan.name} has no calibration {word!r}; it has {known}")
            chosen |= {calibration_key(self._plan.name, name, part) for part in Part}
        return [key for key in everything if key in chosen]

    def _outcome(
        self,
        bucket: Bucket,
        asked: Sequence[dg.AssetKey],
        *,
        wanted: Sequence[dg.AssetKey],
        result: dg.ExecuteInProcessResult,
    ) -> BucketOutcome:
        made = {event.asset_key for event in result.get_asset_materialization_events()}
        failed = {str(event.step_key): why_failed(event) for event in result.all_events if event.is_step_failure}
        ledger, buckets = self._ledger(bucket), self._workshop.campaigns.buckets(self._plan.name)
        left = [key for key in wanted if key not in made and step_name(key) not in failed]
        ready = [key for key in left if all(ledger.is_made(needed) for needed in inputs_of(self._plan, key))]
        blocked = {key: ledger.reasons_against(key, buckets) for key in ready}
        return BucketOutcome(
            done=tuple(_text(key) for key in wanted if key in made),
            found=tuple(_text(key) for key in asked if key not in wanted),
            failed=failed,
            blocked={_text(key): reasons for key, reasons in blocked.items() if reasons},
            later=tuple(_text(key) for key in left if not blocked.get(key)),
            dagster_run=result.run_id,
        )


def work_bucket(
    plan: CampaignPlan, bucket: Bucket, workshop: Workshop, *, instance: dg.DagsterInstance, only_missing: bool = True
) -> BucketOutcome:
    """Make in this process what one bucket lacks; for several buckets of a campaign keep a ``BucketRunner``."""
    return BucketRunner(plan, workshop, instance=instance).work(bucket, only_missing=only_missing)


def cancel_dead_runs(instance: dg.DagsterInstance) -> tuple[str, ...]:
    """Mark as failed the Dagster runs whose process on this machine is gone, and return their ids.

    Only runs that were worked in the process of a command are judged; those of the daemon are watched by the daemon.
    Their places in pools are free again.
    """
    dead = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED)):
        run = record.dagster_run
        process = run.tags.get(PROCESS_TAG)
        if process is not None and not is_alive(process):
            instance.report_run_failed(run, "its process ended before the work was done; start the bucket again")
            if instance.event_log_storage.supports_global_concurrency_limits:
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            dead.append(run.run_id)
    return tuple(dead)


@contextmanager
def quiet_instance(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of a home, for work in this process: what it prints stays on the screen.

    Raises:
        BackendError: also from within the block, when the database server with Dagster's record goes away.
    """
    home = prepare_dagster_home(dagster_home)
    overrides: dict[str, Any] = {"compute_logs": _NO_CAPTURE}
    if keeps_own_record(home):
        overrides["event_log_storage"] = {
            "module": "b2cal_assets.event_storage",
            "class": "KeptConnectionsEventLog",
            "config": {"base_dir": str(home / "history" / "runs")},
        }
    reference = InstanceRef.from_dir(str(home), overrides=overrides)
    with telling_storage_failures(), dg.DagsterInstance.from_ref(reference) as instance:
        yield instance


def _text(key: dg.AssetKey) -> str:
    return key.to_user_string()


def why_failed(event: dg.DagsterEvent) -> str:
    """The sentence of a step that failed."""
    data = event.step_failure_data
    described = data.user_failure_data.description if data.user_failure_data is not None else None
    error = data.error
    while described is None and error is not None and error.cause is not None:
        error = error.cause
    return described or (error.message.strip() if error is not None else "it failed without saying why")


def this_process() -> str:
    """Names a process for ever: machine, number, and when it started, since numbers are used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_of(os.getpid())}"


def is_alive(process: str) -> bool:
    """Whether the process with this name lives; one of another machine counts as alive."""
    machine, number, started = process.rsplit(":", 2)
    return machine != socket.gethostname() or _start_of(int(number)) == started


def _start_of(pid: int) -> str:
    """The clock tick at which the process started, or nothing when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
