"""``b2cal caf``: one calibration script, outside Dagster, with the two JSON files of ``b2caf-prompt-run``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from b2cal_cli import caf_cache, caf_jobs
from b2cal_cli.batch_systems import batch_of
from b2cal_cli.output import AsJson, print_json, print_table, say, tell
from b2cal_cli.session import WrongUsage, arguments, home_of
from b2cal_core.errors import CalibrationError

if TYPE_CHECKING:
    from b2cal_caf.prompt_run import PromptOptions
    from b2cal_caf.requests import LoadedRequest
    from b2cal_core.ports import BatchBackend, CafRequest, CafResult, ConditionsDB
    from resources.home import Home

app = typer.Typer(name="caf", help="Run one calibration script by hand; see and mend its jobs.", no_args_is_help=True)
caf_jobs.register(app)
caf_cache.register(app)


@app.command()
def run(
    ctx: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CAF_CONFIG.json", help="Script, tags, range, expert_config.")],
    inputs: Annotated[
        Path, typer.Argument(metavar="INPUT_DATA.json", help="Input name to directories and their runs.")
    ],
    workdir: Annotated[Path, typer.Option(help="Where the work is done; the same directory again resumes it.")],
    batch: Annotated[str, typer.Option(help="Where sub-jobs run: local, htcondor or slurm.")] = "local",
    max_processes: Annotated[int | None, typer.Option(min=1, help="Local jobs at a time; one per core.")] = None,
    max_files_per_subjob: Annotated[int | None, typer.Option(min=1, help="Files of a sub-job.")] = None,
    max_subjobs: Annotated[int | None, typer.Option(min=1, help="Sub-jobs of a collection.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prepare and check everything, run nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite-working-dir", help="Begin anew instead of resuming.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a calibration script as b2caf-prompt-run does; payloads are left in WORKDIR/caf_outputdb_results.

    Tags are looked for in the conditions database of the home (--home); a path in the chain is a testing payload
    storage.
    """
    from b2cal_caf.prompt_run import PromptOptions, prompt_request

    if max_files_per_subjob and max_subjobs:
        raise WrongUsage("sub-jobs are limited by --max-files-per-subjob or by --max-subjobs, not by both")
    options = PromptOptions(max_files_per_subjob, max_subjobs, overwrite)
    with arguments():
        request = prompt_request(config, inputs, workdir=workdir, options=options)
    if dry_run:
        from b2cal_caf import prompt_run

        _show_plan(prompt_run.dry_run(request), as_json=as_json)
        return
    backend = batch_of(ctx, batch, max_processes=max_processes)
    result = _run(home_of(ctx, make=False) if _names_tags(request) else None, request, options, backend)
    print_json(_result_json(result)) if as_json else _show_result(result)
    if not result.ok:
        sentences = "; ".join(result.errors.values())
        raise CalibrationError(f"the calibration failed: {sentences}; the same command resumes it")


def _names_tags(request: "CafRequest") -> bool:
    return any("/" not in entry for entry in request.database_chain)


def _run(home: "Home | None", request: "CafRequest", options: "PromptOptions", batch: "BatchBackend") -> "CafResult":
    from b2cal_caf.prompt_run import run_prompt
    from b2cal_cli.progress_listener import ProgressListener
    from resources.caf.embedded import EmbeddedCaf

    cache = (home.cache if home else request.directory / "cache").absolute()
    caf = EmbeddedCaf(batch, _conditions(home), cache)
    return run_prompt(request, caf, ProgressListener(tell), options=options)


def _conditions(home: "Home | None") -> "ConditionsDB | None":
    if home is None:
        return None
    from resources.conditions.deployed import open_conditions

    return open_conditions(home)


def _show_plan(loaded: "LoadedRequest", *, as_json: bool) -> None:
    calibrations = [
        {
            "calibration": calibration.name,
            "depends_on": [other.name for other in calibration.dependencies],
            "algorithms": [step.algorithm.name for step in calibration.steps],
            "strategies": [type(step.strategy).__name__ for step in calibration.steps],
            "files": sum(len(collection.input_files) for collection in calibration.collections.values()),
            "saves_payloads": calibration.save_payloads,
        }
        for calibration in loaded.calibrations
    ]
    if as_json:
        answer = {"name": loaded.settings.name, "calibrations": calibrations}
        print_json({**answer, "rejected": dict(loaded.rejected), "remarks": list(loaded.remarks)})
        return
    rows = [[_words(value) for value in calibration.values()] for calibration in calibrations]
    print_table(
        ("calibration", "depends on", "algorithms", "strategies", "files", "saves"), rows, title=loaded.settings.name
    )
    for remark in (*loaded.remarks, *(f"{file} is left out: {why}" for file, why in loaded.rejected.items())):
        say(remark)
    say("nothing was run (--dry-run)")


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _result_json(result: "CafResult") -> dict[str, Any]:
    collected = result.collected
    return {
        "states": dict(result.states),
        "databases": {name: str(directory) for name, directory in result.databases.items()},
        "errors": dict(result.errors),
        "iterations": dict(result.iterations),
        "files": collected.files,
        "events": sum(collected.events.values()),
        "jobs": collected.jobs,
        "cached": collected.cached,
        "rejected": dict(collected.rejected),
        "seconds": dict(result.seconds),
        "resumed": result.resumed,
    }


def _show_result(result: "CafResult") -> None:
    rows = [
        (name, state, result.iterations.get(name, 0), result.databases.get(name, "-"))
        for name, state in result.states.items()
    ]
    print_table(("calibration", "state", "iteration", "payloads"), rows)
    collected = result.collected
    events = sum(collected.events.values())
    say(f"{events} events of {collected.files} files; {collected.jobs} jobs, {collected.cached} cached")
    for file, why in collected.rejected.items():
        say(f"{file} was left out: {why}")
    if result.resumed:
        say("everything was done before, nothing was repeated")


@app.command()
def status(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Working directory of a request, also while it runs.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show where each calibration of a request stands."""
    from b2cal_caf.checkpoints import caf_status

    rows = caf_status(directory)
    if as_json:
        print_json(
            [
                {"name": r.name, "state": r.state.value, "checkpoint": r.checkpoint.value, "iteration": r.iteration}
                for r in rows
            ]
        )
        return
    cells = [(row.name, row.state.value, row.checkpoint.value, row.iteration) for row in rows]
    print_table(("calibration", "state", "checkpoint", "iteration"), cells)
