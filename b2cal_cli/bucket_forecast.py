"""``b2cal bucket forecast``: will the bucket that is filling have enough events for every calibration, and when?"""

from typing import TYPE_CHECKING

import typer

from b2cal_cli.bucket import CampaignName
from b2cal_cli.campaign import campaign_of, store_of
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import home_of

if TYPE_CHECKING:
    from datetime import datetime

    from b2cal_core.campaigns import Campaign
    from b2cal_core.forecasts import Forecast


def forecast(ctx: typer.Context, campaign: CampaignName, as_json: AsJson = False) -> None:
    """Tell what calibrations can expect of the bucket that is filling, against the campaign's wanted_events."""
    from datetime import UTC, datetime

    from b2cal_cli.bucket_forming import waiting_runs
    from b2cal_core.forecasts import closing_time, forecasts, stands_still

    store = store_of(ctx)
    catalogue = store.catalogue(campaign_of(ctx, campaign).catalogue)
    chosen = campaign_of(ctx, campaign).fitted_to(catalogue)
    records = waiting_runs(home_of(ctx), chosen, store.buckets(campaign)).waiting
    settings = [catalogue[name] for name in chosen.calibrations_of(catalogue)]
    now = datetime.now(UTC)
    closes = closing_time(records, chosen.buckets, now=now) if records else None
    found = forecasts(records, chosen.wanted_events, settings, chosen.buckets, now=now)
    if as_json:
        told = {"campaign": campaign, "runs": len(records), "closes_at": _time(closes)}
        print_json({**told, "calibrations": [_fields(one) for one in found]})
        return
    still = bool(records) and stands_still(records, now=now)
    rule = _rule(chosen, max(record.ended for record in records) if still else None)
    say(f"{len(records)} runs wait in the bucket that is filling; it closes {_when(closes, rule)}")
    columns = ("calibration", "events", "wanted", "per hour", "at closing", "enough at", "will do")
    rows = [_row(one, "?" if still else "never at this rate") for one in found]
    print_table(columns, rows, empty="nothing to tell: no run waits, or the campaign file has no wanted_events")


def _rule(campaign: "Campaign", last_end: "datetime | None") -> str:
    """What closes a bucket of which nothing tells when; ``last_end`` of the runs, when none came for long."""
    if campaign.buckets.by_hand_only:
        return "by hand"
    if not campaign.buckets.whole_experiments:
        stopped = last_end is not None
        since = f" while no runs come: the last ended {last_end:%Y-%m-%d %H:%M} UTC" if stopped else " yet"
        return f"at a time that nothing tells{since}"
    last = campaign.last_run
    end = f", or exp {last[0]} run {last[1]} or a later one," if last else ""
    return f"when a run of a later experiment{end} is registered"


def _row(one: "Forecast", never: str) -> tuple[str, ...]:
    closing = "?" if one.at_closing is None else str(one.at_closing)
    will_do = {True: "yes", False: "no", None: "?"}[one.will_do]
    when = _when(one.enough_at, never)
    return one.calibration, str(one.events), str(one.wanted), f"{one.per_hour:.0f}", closing, when, will_do


def _fields(one: "Forecast") -> dict[str, object]:
    return {
        "calibration": one.calibration,
        "events": one.events,
        "wanted": one.wanted,
        "per_hour": round(one.per_hour, 3),
        "at_closing": one.at_closing,
        "enough_at": _time(one.enough_at),
        "will_do": one.will_do,
    }


def _when(moment: "datetime | None", otherwise: str) -> str:
    return otherwise if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def _time(moment: "datetime | None") -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
