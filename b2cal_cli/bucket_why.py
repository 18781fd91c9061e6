"""``b2cal bucket why``: how each asset of a bucket stands, why it is not made, and what brings it further."""

from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.bucket import BucketKey, CampaignName, bucket_of
from b2cal_cli.campaign import campaign_of, store_of
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import home_of
from b2cal_cli.signoff import calibration_of

if TYPE_CHECKING:
    from b2cal_core.buckets import Bucket
    from b2cal_core.cells import Cell
    from b2cal_core.ports import CampaignStore
    from resources.home import Home


def why(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    calibration: Annotated[
        str | None, typer.Argument(metavar="[CALIBRATION]", help="Only this calibration, import, cdst or published.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say of each asset of a bucket how it stands, why it is not made, and which command brings it further."""
    from b2cal_core.settings import asset_name

    chosen = bucket_of(ctx, campaign, bucket)
    short = calibration
    if calibration not in {None, "cdst", "published", *campaign_of(ctx, campaign).imported}:
        short = asset_name(calibration_of(ctx, campaign, str(calibration)))
    cells = _cells(home_of(ctx), store_of(ctx), campaign, chosen)
    wanted = [cell for cell in cells if short is None or cell.name.split("/")[1] == short]
    if as_json:
        fields = ({"asset": c.name, "state": c.state.value, "reasons": c.reasons, "command": c.command} for c in wanted)
        print_json({"campaign": campaign, "bucket": chosen.key, "cells": list(fields)})
        return
    rows = [(cell.name.partition("/")[2], cell.state.value, "\n".join(cell.reasons)) for cell in wanted]
    print_table(("asset", "state", "why"), rows, title=f"{campaign} {chosen.key} {chosen.label}".strip())
    for command in dict.fromkeys(cell.command for cell in wanted if cell.command):
        say(f"  - {command}")


def _cells(home: "Home", store: "CampaignStore", campaign: str, bucket: "Bucket") -> "tuple[Cell, ...]":
    from b2cal_cli.ledgers import ledger_of
    from sensors.dagster_runs import runs_of_bucket
    from sensors.gates import OpenBucket, cells_with_rest
    from sensors.resting import rest_of

    with ledger_of(home, campaign, bucket) as opened:
        runs = runs_of_bucket(opened.instance, opened.plan, bucket.key)
        seen = OpenBucket(opened.ledger, store.buckets(campaign), runs, opened.instance)
        return cells_with_rest(seen, rest_of(store, campaign))
