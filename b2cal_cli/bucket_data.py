"""``b2cal bucket data``: what is done about a calibration that has not enough data in its bucket."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from b2cal_cli.bucket import BucketKey, CampaignName, bucket_of
from b2cal_cli.campaign import Author, Reason, campaign_of, store_of
from b2cal_cli.decision_terms import person, reason_of
from b2cal_cli.output import AsJson, print_json, say
from b2cal_cli.session import arguments, home_of
from b2cal_cli.signoff import CalibrationName, calibration_of
from b2cal_core.remedies import Remedy


def data(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: BucketKey,
    calibration: CalibrationName,
    remedy: Annotated[
        Remedy,
        typer.Argument(
            help="merge: take data of the bucket before as well; extend: those of the next one, when it is closed;"
            " reuse: take the payloads that were valid before; alone: try again with the bucket's own; ask: wait."
        ),
    ],
    reason: Reason,
    author: Author = None,
    as_json: AsJson = False,
) -> None:
    """Choose what is done about a calibration that has not enough data in a bucket; it is logged."""
    from b2cal_core.data_shortage import ShortageChoice
    from resources.deployment import registry_address
    from resources.signoff.embedded import EmbeddedSignOffLog

    chosen = campaign_of(ctx, campaign)
    key, name = bucket_of(ctx, campaign, bucket).key, calibration_of(ctx, campaign, calibration)
    who, now = person(author), datetime.now(UTC)
    expert = store_of(ctx).catalogue(chosen.catalogue)[name].expert_username
    with arguments():
        chosen.deciders(expert).decides_for(who, now.date(), experts_only=chosen.gates.experts_only)
    log = EmbeddedSignOffLog(registry_address(home_of(ctx)))
    log.choose(ShortageChoice(chosen.name, key, name, remedy, who, reason_of(reason), now))
    if as_json:
        print_json({"campaign": chosen.name, "bucket": key, "calibration": name, "remedy": remedy.value})
        return
    then = "the service goes on by itself, or: b2cal bucket run"
    say(f"{name} of {key}: {remedy.value}, chosen by {who}; {then} {chosen.name} {key} --only {calibration}")
