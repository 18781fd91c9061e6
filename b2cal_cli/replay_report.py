"""What a replay ended with: how long each bucket took, what is not published and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from b2cal_assets.bucket_cells import cells_of
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.latencies import CampaignLatencies
from b2cal_assets.latency_report import to_json
from b2cal_assets.workshop import Workshop
from b2cal_cli.latency import print_latencies
from b2cal_cli.output import print_json, print_table, say
from b2cal_core.awaited_runs import all_runs_there
from b2cal_core.buckets import Bucket, form_buckets
from b2cal_core.cells import Cell, CellState
from b2cal_core.errors import CalibrationError
from b2cal_core.latency import BucketLatency
from sensors.dagster_runs import activity, runs_of_bucket

_STOPPED = frozenset({CellState.blocked, CellState.failed, CellState.stale, CellState.can_start})


@dataclass(frozen=True, slots=True)
class CampaignReport:
    """One campaign.

    Attributes:
        stopped: bucket that is not published to the assets with which it goes no further.
        waiting: how many runs wait for the next bucket to fill; ``late`` how many no bucket has.
    """

    campaign: str
    latencies: tuple[BucketLatency, ...]
    stopped: dict[str, tuple[Cell, ...]]
    waiting: int
    late: int


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """All campaigns; ``runs`` is the number of runs replayed."""

    runs: int
    campaigns: tuple[CampaignReport, ...]

    def require_success(self) -> None:
        """Raise ``CalibrationError`` when something failed; to wait for people is no failure."""
        failed = [
            f"  - {cell.name}, bucket {bucket}: {'; '.join(cell.reasons)}"
            for campaign in self.campaigns
            for bucket, cells in campaign.stopped.items()
            for cell in cells
            if cell.state is CellState.failed
        ]
        if failed:
            raise CalibrationError("work failed; what does not depend on it is done:\n" + "\n".join(failed))


def report_on(
    plans: Sequence[CampaignPlan], workshop: Workshop, *, instance: dg.DagsterInstance, runs: int
) -> ReplayReport:
    """Look at every bucket of the campaigns."""
    return ReplayReport(runs, tuple(_report(plan, workshop, instance) for plan in plans))


def _report(plan: CampaignPlan, workshop: Workshop, instance: dg.DagsterInstance) -> CampaignReport:
    latencies = CampaignLatencies(plan, workshop, instance=instance).all()
    buckets = workshop.campaigns.buckets(plan.name)
    published = {one.bucket for one in latencies if one.is_published}
    records = (record for record in workshop.runs.runs(plan.campaign.iov))
    over = all_runs_there(plan.campaign, workshop.runs)
    formation = form_buckets(records, plan.campaign.buckets, buckets, all_there=over)
    return CampaignReport(
        plan.name,
        latencies,
        {b.key: _stopped(plan, b, workshop, instance=instance) for b in buckets if b.key not in published},
        waiting=len(formation.waiting),
        late=len(formation.late),
    )


def _stopped(
    plan: CampaignPlan, bucket: Bucket, workshop: Workshop, *, instance: dg.DagsterInstance
) -> tuple[Cell, ...]:
    ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=workshop.sign_offs)
    found = activity(instance, runs_of_bucket(instance, plan, bucket.key))
    cells = cells_of(ledger, workshop.campaigns.buckets(plan.name), found)
    return tuple(cell for cell in cells if cell.state in _STOPPED)


def print_report(report: ReplayReport, *, as_json: bool) -> None:
    """Show the report on the standard output."""
    if as_json:
        print_json({"runs": report.runs, "campaigns": [_campaign_json(one) for one in report.campaigns]})
        return
    for one in report.campaigns:
        print_latencies(one.latencies, one.campaign)
        rows = [
            (bucket, cell.name.partition("/")[2], cell.state.value, "\n".join(cell.reasons))
            for bucket, cells in one.stopped.items()
            for cell in cells
        ]
        if rows:
            print_table(
                ("bucket", "asset", "state", "why"), rows, title=f"{one.campaign}: what is not published, and why"
            )
        say(f"{one.campaign}: {report.runs} runs replayed, {len(one.latencies) - len(one.stopped)} buckets published")
        if one.waiting or one.late:
            say(f"{one.waiting} runs wait for their bucket to fill; no bucket has {one.late} that came late")


def _campaign_json(one: CampaignReport) -> dict[str, Any]:
    return {
        "campaign": one.campaign,
        "buckets": [to_json(latency) for latency in one.latencies],
        "not_published": {
            bucket: [
                {"asset": c.name, "state": c.state.value, "reasons": c.reasons, "command": c.command} for c in cells
            ]
            for bucket, cells in one.stopped.items()
        },
        "waiting": one.waiting,
        "late": one.late,
    }
