"""The platform in one process: its sensors are asked in turn, and what they ask for is worked at once.

The sensors and jobs are those that ``b2cal up`` has; only the daemon between them is left out.
"""

import dagster as dg

from b2cal_assets.bucket_runs import PROCESS_TAG, this_process, why_failed
from b2cal_assets.campaign_assets import bucket_job, campaign_assets
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.collecting_ahead import ahead_calibrations, ahead_job
from b2cal_assets.quiet_logging import quiet_logger
from b2cal_assets.workshop import Workshop
from b2cal_cli.progress_listener import ProgressListener
from sensors.gates import gates_sensor
from sensors.new_runs import new_runs_sensor

_CURSOR = "b2cal_replay_{}"
_RUN_KEY_TAG = "dagster/run_key"


class SensorLoop:
    """The sensors of new runs and of gates over some campaigns, and the Dagster runs they ask for.

    Args:
        listener: told what begins and ends.
    """

    def __init__(
        self,
        plans: list[CampaignPlan],
        workshop: Workshop,
        *,
        instance: dg.DagsterInstance,
        listener: ProgressListener,
    ) -> None:
        self._workshop, self._instance, self._listener = workshop, instance, listener
        bucket_jobs = [bucket_job(plan, dg.in_process_executor) for plan in plans]
        ahead = [ahead_job(plan, dg.in_process_executor, workshop) for plan in plans if ahead_calibrations(plan)]
        self._sensors = [new_runs_sensor(plans, [*bucket_jobs, *ahead]), gates_sensor(plans, bucket_jobs)]
        self._definitions = dg.Definitions(
            assets=[asset for plan in plans for asset in campaign_assets(plan)],
            jobs=[*bucket_jobs, *ahead],
            resources={"workshop": workshop},
            loggers={"quiet": quiet_logger},
        )

    def turn(self) -> bool:
        """Ask every sensor once and do all they ask for; whether that was anything."""
        worked = False
        for sensor in self._sensors:
            for request in self._asked_by(sensor):
                self._work(request)
                worked = True
        return worked

    def _asked_by(self, sensor: dg.SensorDefinition) -> list[dg.RunRequest]:
        key, storage = _CURSOR.format(sensor.name), self._instance.daemon_cursor_storage
        cursor = storage.get_cursor_values({key}).get(key) or None
        resources = {"workshop": self._workshop}
        with dg.build_sensor_context(instance=self._instance, cursor=cursor, resources=resources) as context:
            answer = sensor(context)
        if isinstance(answer, dg.SkipReason):
            self._listener.line(f"{sensor.name}: {answer.skip_message}")
            return []
        if not isinstance(answer, dg.SensorResult):
            raise TypeError(f"the sensor {sensor.name} answered with {answer!r}")
        for partitions in answer.dynamic_partitions_requests or ():
            self._instance.add_dynamic_partitions(partitions.partitions_def_name, list(partitions.partition_keys))
        storage.set_cursor_values({key: answer.cursor or ""})
        return list(answer.run_requests or ())

    def _work(self, request: dg.RunRequest) -> None:
        self._listener.subject(request.partition_key or "open bucket")
        self._listener.line("begins")
        job = self._definitions.resolve_job_def(str(request.job_name))
        result = job.execute_in_process(
            instance=self._instance,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            raise_on_error=False,
            run_config={"loggers": {"quiet": {}}},
            tags={**request.tags, _RUN_KEY_TAG: str(request.run_key), PROCESS_TAG: this_process()},
        )
        failed = [why_failed(event) for event in result.all_events if event.is_step_failure]
        if any(dg.DagsterExecutionInterruptedError.__name__ in why for why in failed):
            raise KeyboardInterrupt
        for why in failed:
            self._listener.line(f"failed: {why}")
        self._listener.line(f"ends, {len(result.get_asset_materialization_events())} results made")
        self._listener.subject("")
