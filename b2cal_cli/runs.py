"""``b2cal runs``: what the registry knows of the detector's runs."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from b2cal_cli.output import AsJson, counted_progress, print_json, print_table, say
from b2cal_cli.session import WrongUsage, arguments, home_of
from b2cal_core.errors import DataError

if TYPE_CHECKING:
    from b2cal_core.runs import RunRecord
    from resources.runs.embedded import EmbeddedRunRegistry

app = typer.Typer(name="runs", help="Runs of the detector, as the registry knows them.", no_args_is_help=True)
Experiment = Annotated[int, typer.Argument(min=0, metavar="EXP", help="Experiment.")]
RunNumber = Annotated[int, typer.Argument(min=0, metavar="RUN", help="Run.")]


def registry_of(ctx: typer.Context, *, make: bool = False) -> "EmbeddedRunRegistry":
    """The run registry of the home."""
    from resources.deployment import registry_address
    from resources.runs.embedded import EmbeddedRunRegistry

    return EmbeddedRunRegistry(registry_address(home_of(ctx, make=make)))


@app.command(name="list")
def list_runs(
    ctx: typer.Context,
    exp: Annotated[int | None, typer.Option(min=0, help="Only this experiment.")] = None,
    first: Annotated[int, typer.Option(min=0, help="With --exp: from this run on.")] = 0,
    last: Annotated[int | None, typer.Option(min=0, help="With --exp: up to this run, included.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs with their type, quality, events and files."""
    from b2cal_core.ranges import IoV

    if exp is None and (first or last is not None):
        raise WrongUsage("--first and --last are runs of one experiment; give --exp with them")
    if last is not None and last < first:
        raise WrongUsage(f"the last run, {last}, comes before the first, {first}")
    within = None if exp is None else IoV(exp, first, exp, -1 if last is None else last)
    records = registry_of(ctx).runs(within)
    if as_json:
        from resources.runs.records import record_to_json

        print_json([record_to_json(record) for record in records])
        return
    columns = ("exp", "run", "type", "energy", "magnet", "quality", "started (UTC)", "minutes", "files", "events")
    empty = "no runs yet; register some: b2cal runs ingest FEED, or simulate some: b2cal runs simulate --register"
    print_table(columns, map(_row, records), empty=empty)


def _row(record: "RunRecord") -> tuple[object, ...]:
    minutes = (record.ended - record.started).total_seconds() / 60
    events = sum(file.events for file in record.files if file.data_format == "raw")
    return (
        *record.run,
        record.run_type,
        record.beam_energy,
        record.magnet,
        ", ".join(sorted(record.quality)),
        f"{record.started:%Y-%m-%d %H:%M}",
        f"{minutes:.0f}",
        len(record.files),
        events,
    )


@app.command()
def show(ctx: typer.Context, exp: Experiment, run: RunNumber, as_json: AsJson = False) -> None:
    """Show one run and its files."""
    from b2cal_core.ranges import IoV
    from resources.runs.records import record_to_json

    found = registry_of(ctx).runs(IoV(exp, run, exp, run))
    if not found:
        raise WrongUsage(f"exp {exp} run {run} is not registered; b2cal runs list --exp {exp} lists those that are")
    fields = record_to_json(found[0])
    if as_json:
        print_json(fields)
        return
    files = fields.pop("files")
    rows = [(key, ", ".join(value) if isinstance(value, list) else value) for key, value in fields.items()]
    print_table(("field", "value"), rows)
    print_table(("tag", "format", "events", "bytes", "path"), [_file_row(file) for file in files], empty="no files")


def _file_row(file: dict[str, object]) -> tuple[object, ...]:
    return tuple(file[key] for key in ("tag", "data_format", "events", "size", "path"))


@app.command()
def simulate(
    ctx: typer.Context,
    seed: Annotated[int, typer.Option(min=0, help="Says which detector, with which truth.")] = 1,
    exp: Annotated[int, typer.Option(min=0, help="Experiment.")] = 12,
    first: Annotated[int, typer.Option(min=0, help="First run.")] = 1,
    count: Annotated[int, typer.Option(min=1, help="Number of runs.")] = 40,
    scale: Annotated[float, typer.Option(min=0.0, help="Factor on the number of events.")] = 1.0,
    register: Annotated[bool, typer.Option("--register", help="Put the runs into the registry too.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs simulated at a time; by default one per core.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate runs of the reference detector, and write the feed that b2cal runs ingest reads."""
    from b2cal_cli.simulation import Simulation, feed_file, simulate_runs
    from resources.runs.records import write_records

    home = home_of(ctx, make=True)
    simulation = Simulation(seed=seed, exp=exp, first=first, count=count, scale=scale)
    with counted_progress("simulating runs") as advanced:
        records = simulate_runs(simulation, home.data, processes=processes, advanced=advanced).records
    feed = feed_file(home, simulation)
    write_records(feed, records)
    changed = registry_of(ctx).add(records) if register else None
    if as_json:
        print_json({"runs": len(records), "feed": str(feed), "registered": changed})
    elif register:
        say(f"{len(records)} runs are simulated, {changed} of them new or changed in the registry")
    else:
        say(f"{len(records)} runs are simulated; register them: b2cal runs ingest {feed}")


@app.command()
def ingest(
    ctx: typer.Context,
    feed: Annotated[Path, typer.Argument(metavar="FEED", help="File with one JSON object per line, one for each run.")],
    checksums: Annotated[bool, typer.Option("--checksums", help="Read every file and verify its checksum.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register the runs of a feed whose files are there; runs with missing or damaged files are left out and named."""
    from b2cal_cli.run_files import problems_of
    from resources.runs.records import read_records

    records = tuple(read_records(feed))
    problems = {record.run: found for record in records if (found := problems_of(record, checksums=checksums))}
    registry = registry_of(ctx, make=True)
    sound = [record for record in records if record.run not in problems]
    changed = registry.add(sound)
    if as_json:
        left_out = {str(run): list(found) for run, found in problems.items()}
        print_json({"runs": len(records), "changed": changed, "left_out": left_out})
    else:
        say(f"{len(sound)} runs of the feed are registered, {changed} of them new or changed")
    if problems:
        lines = "\n".join(f"  {run}: {'; '.join(found)}" for run, found in problems.items())
        raise DataError(f"{len(problems)} runs were left out; mend their files and ingest again:\n{lines}")


@app.command()
def mirror(
    ctx: typer.Context,
    exp: Annotated[int | None, typer.Option(min=0, help="Only this experiment.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring runs over from the detector's run registry now, those that are known too, for changes of their quality.

    The service (b2cal up) does so by itself for new runs, and every hour for those of the last weeks.
    """
    from b2cal_assets.definitions import embedded_mirror
    from b2cal_core.ranges import IoV

    opened = embedded_mirror(home_of(ctx, make=True))
    if opened is None:
        raise WrongUsage("no run registry is named; give runs.kind: rundb and runs.server in deployment.yaml")
    done = opened.bring(None if exp is None else IoV(exp, 0, exp, -1))
    if as_json:
        print_json({"runs": done.runs, "changed": done.changed})
    else:
        say(f"{done.runs} runs are read, {done.changed} of them new or changed")


@app.command()
def register(
    ctx: typer.Context,
    exp: Experiment,
    run: RunNumber,
    file: Annotated[
        list[str] | None, typer.Option(metavar="TAG:FORMAT:PATH", help="A file of the run; repeat it.")
    ] = None,
    run_type: Annotated[str | None, typer.Option("--type", help="Run type.")] = None,
    energy: Annotated[str | None, typer.Option(help="Beam energy.")] = None,
    magnet: Annotated[str | None, typer.Option(help="On or Off.")] = None,
    quality: Annotated[list[str] | None, typer.Option(help="A data quality tag; repeat it to give them all.")] = None,
    started: Annotated[datetime | None, typer.Option(help="Start, in UTC.")] = None,
    ended: Annotated[datetime | None, typer.Option(help="End, in UTC.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register one run by hand, or change what is known of it; what is not given stays as it is.

    A new run needs its times; unless said otherwise it is a physics run on the 4S with the magnet on.
    """
    from b2cal_cli.run_files import described_run
    from b2cal_core.ranges import ExpRun, IoV
    from resources.runs.records import record_to_json

    registry = registry_of(ctx, make=True)
    known = registry.runs(IoV(exp, run, exp, run))
    with arguments():
        record = described_run(
            ExpRun(exp, run),
            known[0] if known else None,
            labels=(run_type, energy, magnet),
            quality=quality or None,
            times=(started, ended),
            files=file or (),
        )
    changed = registry.add([record])
    if as_json:
        print_json({"changed": bool(changed), "run": record_to_json(record)})
    else:
        say(f"{record.run} is registered with {len(record.files)} files" + ("" if changed else "; nothing changed"))
