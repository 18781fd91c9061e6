"""``b2cal latency``: how long buckets take from their runs to their publication, and what they wait for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.bucket import CampaignName, bucket_of
from b2cal_cli.campaign import campaign_of
from b2cal_cli.output import AsJson, print_json, print_table, say
from b2cal_cli.session import WrongUsage, home_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b2cal_core.buckets import Bucket
    from b2cal_core.latency import BucketLatency, Spread
    from resources.home import Home

app = typer.Typer(
    name="latency", help="How long buckets take to be published, and what they wait for.", no_args_is_help=True
)


@app.command()
def show(
    ctx: typer.Context,
    campaign: CampaignName,
    bucket: Annotated[str | None, typer.Argument(metavar="[BUCKET]", help="Key or label; by default all.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw a bar for each bucket into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say of each bucket how long it took, and how much of that it waited for data, machine, queue, people, platform.

    The shares are those of the time from the first run of the bucket on; those from its closing on are in --json.
    """
    if plot is not None and plot.suffix.lower() != ".png":
        raise WrongUsage(f"the plot is a .png file, not {plot.name}; choose such a name")
    chosen = bucket_of(ctx, campaign, bucket) if bucket is not None else None
    campaign_of(ctx, campaign)
    found = read_latencies(home_of(ctx), campaign, chosen)
    if plot is not None:
        _draw(found, campaign, plot)
    if as_json:
        from b2cal_assets.latency_report import summary, to_json

        spreads = {name: _spread_json(spread) for name, spread in summary(found).items()}
        print_json({"campaign": campaign, "buckets": [to_json(one) for one in found], "summary": spreads})
    else:
        print_latencies(found, campaign)
        if plot is not None:
            say(f"the picture is in {plot}")


def read_latencies(home: "Home", campaign: str, bucket: "Bucket | None" = None) -> "tuple[BucketLatency, ...]":
    """Those of all buckets of the campaign, or that of one."""
    from b2cal_assets.bucket_runs import quiet_instance
    from b2cal_assets.campaign_plans import CampaignPlan
    from b2cal_assets.definitions import embedded_workshop
    from b2cal_assets.latencies import CampaignLatencies

    workshop = embedded_workshop(home)
    plan = CampaignPlan.read(workshop.campaigns, campaign)
    with quiet_instance(home.dagster_home) as instance:
        latencies = CampaignLatencies(plan, workshop, instance=instance)
        if bucket is None:
            return latencies.all()
        return tuple(filter(None, [latencies.of(bucket)]))


def print_latencies(found: "Sequence[BucketLatency]", campaign: str) -> None:
    """A table of the buckets, and one of how the published ones are spread."""
    from b2cal_assets.latency_report import SHOWN, in_words, summary

    columns = ("bucket", "state", "from first run", "from last run", "from closing", *(what.value for what in SHOWN))
    rows = [
        (
            one.bucket,
            "published" if one.is_published else "not published",
            *map(in_words, (one.from_first_run, one.from_last_run, one.from_closing)),
            *(in_words(one.shares[what]) for what in SHOWN),
        )
        for one in found
    ]
    title = f"{campaign}: time to the publication, and what it was spent on since the first run"
    print_table(columns, rows, title=title, empty=f"campaign {campaign} has no bucket yet")
    spreads = summary(found)
    if len(found) > 1 and spreads:
        told = [(name, *map(in_words, (one.median, one.ninety, one.worst))) for name, one in spreads.items()]
        title = f"{campaign}: the {sum(one.is_published for one in found)} published buckets"
        print_table(("time", "median", "90 %", "worst"), told, title=title)


def _spread_json(spread: "Spread") -> dict[str, float]:
    times = {"median": spread.median, "ninety": spread.ninety, "worst": spread.worst}
    return {name: time.total_seconds() for name, time in times.items()}


def _draw(found: "Sequence[BucketLatency]", campaign: str, file: Path) -> None:
    from b2cal_assets.latency_report import draw_latencies
    from b2cal_caf.atomic_files import write_atomically

    write_atomically(file, draw_latencies(found, title=f"{campaign}: where the time of its buckets went"))
