"""Validation of the position and size of the beam spot."""

from pathlib import Path
from typing import Any

import numpy as np

from b2cal_core.ranges import IoV
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from b2cal_detector.algorithms.beam_spot import positions
from b2cal_detector.finished_job import FinishedJob, payload_of, previous_payload
from b2cal_detector.plots import plot_over_runs

settings = ValidationSettings(name="BeamSpot Calibrations", description=__doc__ or "")
_MICRON = 1e-4


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of the position over runs, fitted in each run and as in the payloads."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    payloads = job.payloads("BeamSpot", "BeamSpot")
    collected = job.collected("BeamSpot")
    tables = {run: collected.of([run]).table("pairs") for run in collected.runs}
    runs = [run for run, table in tables.items() if table]
    measured = positions([tables[run] for run in runs])
    valid = np.array([[payload_of(payloads, run).columns[axis][0] for axis in "xyz"] for run in runs])
    values = np.array([each.value for each in measured])
    left = [(m.value - v) @ m.information @ (m.value - v) for m, v in zip(measured, valid, strict=True)]
    freedom = 3 * (len(runs) - len(payloads))
    sizes = {a: np.array([p.columns[f"size_{a}{a}"][0] for p in payloads]) for a in "xyz"}
    transverse = np.sqrt(np.maximum(np.concatenate([sizes["x"], sizes["y"]]), 0)) / _MICRON
    error = max(float(p.columns[f"{a}_err"][0]) for p in payloads for a in "xy") / _MICRON
    figures = [
        Figure("scatter_in_intervals", float(sum(left) / max(freedom, 1)), Threshold(None, None, 2, 5), "", "chi²/ndf"),
        Figure("largest_transverse_error", error, Threshold(None, None, 5, 20), "µm"),
        Figure("largest_transverse_size", float(transverse.max()), Threshold(None, None, 40, 100), "µm"),
        Figure("smallest_transverse_size", float(transverse.min()), Threshold(0, 2), "µm"),
        Figure("length", float(np.sqrt(sizes["z"].max()) / _MICRON), Threshold(50, 100, 600, 1000), "µm"),
    ]
    previous = previous_payload(kwargs.get("previous"), "BeamSpot", requested_iov)
    for position, axis in enumerate("xyz"):
        errors = np.sqrt([np.linalg.pinv(each.information)[position, position] for each in measured])
        plot_over_runs(
            plots / f"position_{axis}.png",
            [run.run for run in runs],
            {"each run": (values[:, position], errors), "payload": (valid[:, position], None)},
            title=f"{axis} of the beam spot",
            ylabel=f"{axis} (cm)",
            previous=None if previous is None else float(previous[axis][0]),
        )
    if previous is not None:
        step = max(abs(float(payloads[0].columns[axis][0] - previous[axis][0])) for axis in "xy") / _MICRON
        figures.append(
            Figure("transverse_step", step, Threshold(None, None, 150, 1000), "µm", "from the bucket before")
        )
    return figures
