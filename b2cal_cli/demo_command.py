"""``b2cal demo``: simulate a detector, calibrate its buckets, publish the constants, and show them beside the truth."""

from typing import Annotated

import typer

from b2cal_cli.output import AsJson
from b2cal_cli.session import home_of


def demo(
    ctx: typer.Context,
    seed: Annotated[int, typer.Option(min=0, help="Says which detector is simulated, with which truth.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Number of runs.")] = 40,
    bucket_runs: Annotated[
        int | None, typer.Option(min=1, help="Counted runs in a bucket; by default what the campaign file says.")
    ] = None,
    scale: Annotated[float, typer.Option(min=0.01, help="Factor on the number of events of every run.")] = 1.0,
    batch: Annotated[
        str | None, typer.Option(help="Where jobs run: local, htcondor or slurm; by default what the campaign says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a detector with known truth, calibrate its buckets through Dagster, and publish the constants.

    Finished work in the home directory (--home) is not repeated; a demo that was killed is resumed by the next one.
    """
    from b2cal_cli.demo_report import print_report
    from b2cal_cli.demo_run import DemoOptions, run_demo

    options = DemoOptions(seed=seed, runs=runs, bucket_runs=bucket_runs, scale=scale, batch=batch)
    report = run_demo(home_of(ctx, make=True), options)
    print_report(report, as_json=as_json)
    report.require_success()
