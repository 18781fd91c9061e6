"""``result.json``: how a request ended, written down and read again."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.layout import RequestLayout, iteration_layout
from b2cal_core.ports import CafResult, CollectedSummary
from b2cal_core.ranges import ExpRun


def write_result(path: Path, result: CafResult, identity: str) -> None:
    """Write the result with the identity of the inputs it belongs to."""
    collected = result.collected
    content = {
        "identity": identity,
        "states": dict(result.states),
        "databases": {name: str(directory) for name, directory in result.databases.items()},
        "errors": dict(result.errors),
        "collected": {
            "files": collected.files,
            "events": [[*run, events] for run, events in collected.events.items()],
            "jobs": collected.jobs,
            "cached": collected.cached,
            "rejected": dict(collected.rejected),
        },
        "seconds": dict(result.seconds),
        "iterations": dict(result.iterations),
    }
    write_json(path, content, for_people=True)


def read_result(path: Path, identity: str) -> CafResult | None:
    """The result of an earlier process, if it belongs to these inputs, went well, and its payloads are still there."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("identity") != identity:
        return None
    result = _of_json(content)
    whole = result.ok and all((directory / "database.txt").exists() for directory in result.databases.values())
    return replace(result, resumed=True, seconds={}) if whole else None


def collected_summary(layout: RequestLayout, calibrations: Iterable[str], rejected: dict[str, str]) -> CollectedSummary:
    """What collection amounted to, from the plans that lie on disk."""
    events: dict[str, tuple[ExpRun, int]] = {}
    left_out = dict(rejected)
    jobs = cached = 0
    for name in calibrations:
        for path in sorted(layout.calibration(name).glob("*/collector_input/*/collector_job.json")):
            plan = json.loads(path.read_bytes())
            done = sum(job["cached"] for job in plan["subjobs"])
            jobs, cached = jobs + len(plan["subjobs"]) - done, cached + done
            left_out |= plan["rejected"]
            if path.is_relative_to(iteration_layout(layout, name, 0).directory):
                for file, exp, run, number in (file for job in plan["subjobs"] for file in job["files"]):
                    events[file] = ExpRun(exp, run), number
    per_run: dict[ExpRun, int] = {}
    for run, number in sorted(events.values()):
        per_run[run] = per_run.get(run, 0) + number
    return CollectedSummary(files=len(events), events=per_run, jobs=jobs, cached=cached, rejected=left_out)


def _of_json(content: dict[str, Any]) -> CafResult:
    collected = content["collected"]
    return CafResult(
        states=content["states"],
        databases={name: Path(directory) for name, directory in content["databases"].items()},
        errors=content["errors"],
        collected=CollectedSummary(
            files=collected["files"],
            events={ExpRun(exp, run): events for exp, run, events in collected["events"]},
            jobs=collected["jobs"],
            cached=collected["cached"],
            rejected=collected["rejected"],
        ),
        seconds=content["seconds"],
        iterations=content["iterations"],
    )
