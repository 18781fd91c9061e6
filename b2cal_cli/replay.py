"""``b2cal replay``: a recorded or generated list of runs through everything, faster than it was taken."""

from pathlib import Path
from typing import Annotated

import typer

from b2cal_cli.output import AsJson
from b2cal_cli.session import WrongUsage, home_of

_HUNDRED = 100.0


def _part(text: str) -> float:
    """The fraction that ``5%`` or ``5`` stands for."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError as error:
        raise typer.BadParameter(f"a part of the runs is given in per cent, for example 5%, not {text!r}") from error
    if not 0 <= percent <= _HUNDRED:
        raise typer.BadParameter(f"a part of the runs is from 0% to 100%, not {text}")
    return percent / _HUNDRED


def _numbers(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise typer.BadParameter(f"experiments are numbers with commas between them, for example 12,14, not {text!r}")
    return tuple(dict.fromkeys(int(word) for word in words))


def replay(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", exists=True, dir_okay=False, help="Recorded runs, as b2cal runs ingest reads them."
        ),
    ] = None,
    generate: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Without a file: simulate so many runs of the reference detector."),
    ] = None,
    experiments: Annotated[
        str, typer.Option(help="Of generated runs: the experiments that they are spread over, with commas.")
    ] = "12",
    seed: Annotated[
        int, typer.Option(min=0, help="Says which detector is simulated, and which runs are disordered.")
    ] = 1,
    scale: Annotated[float, typer.Option(min=0.01, help="Factor on the number of events of generated runs.")] = 1.0,
    speed: Annotated[float, typer.Option(min=0.001, help="How many times faster than the detector.")] = 100.0,
    late: Annotated[str, typer.Option(metavar="PERCENT", help="Part of the runs that come a day late.")] = "0%",
    out_of_order: Annotated[
        str, typer.Option(metavar="PERCENT", help="Part of the runs that come after the one that follows.")
    ] = "0%",
    bad: Annotated[
        str, typer.Option(metavar="PERCENT", help="Part of the runs that are bad, beside those that are.")
    ] = "0%",
    campaign: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Campaign file for a home that has not that campaign; by default the demo's.",
        ),
    ] = None,
    bucket_runs: Annotated[
        int | None, typer.Option(min=1, help="Of the demo's campaign: counted runs in a bucket.")
    ] = None,
    by_service: Annotated[
        bool, typer.Option("--service", help="A running b2cal up on the same home does the work; only feed it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Register the runs of a list at the times they were taken, many times faster, while the platform works on them.

    At the end, or when nothing can go on without people, say of each bucket how long it took and what it waits for.
    A replay that was killed goes on where it was when it is started again on the same home directory (--home).
    """
    if (file is None) == (generate is None):
        raise WrongUsage("give either a file with recorded runs or --generate N, and not both")
    if campaign is not None and bucket_runs is not None:
        raise WrongUsage("--bucket-runs is for the demo's campaign; write buckets.runs into the file of --campaign")
    from b2cal_cli.replay_list import Disorder
    from b2cal_cli.replay_report import print_report
    from b2cal_cli.replay_run import ReplayOptions, run_replay

    options = ReplayOptions(
        file=file,
        generate=generate or 0,
        experiments=_numbers(experiments),
        scale=scale,
        speed=speed,
        disorder=Disorder(seed, _part(late), _part(out_of_order), _part(bad)),
        campaign=campaign,
        bucket_runs=bucket_runs,
        by_service=by_service,
    )
    report = run_replay(home_of(ctx, make=True), options)
    print_report(report, as_json=as_json)
    report.require_success()
