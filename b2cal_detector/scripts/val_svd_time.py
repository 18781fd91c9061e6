"""Validation of the time calibration of the vertex-detector sensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from b2cal_core.ranges import IoV
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from b2cal_detector.finished_job import (
    FinishedJob,
    change_in_sigma,
    payload_of,
    previous_payload,
    root_mean_square,
)
from b2cal_detector.plots import plot_distributions, plot_over_runs

settings = ValidationSettings(name="caf_svd_time", description=__doc__ or "")
Columns = Mapping[str, np.ndarray]


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of residuals over runs, before and after, and against the bucket before."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    payloads = job.payloads("svd_time", "SVDTimeCalibrations")
    collected = job.collected("svd_time")
    start = job.before("SVDTimeCalibrations", collected.runs[0]) or payloads[0].columns
    after, before, widths = [], [], []
    for run in collected.runs:
        line = collected.of([run]).sums("line")
        mean, width = residuals(line, payload_of(payloads, run).columns)
        after.append(mean)
        widths.append(width)
        before.append(residuals(line, start)[0])
    events = np.array([collected.events[run] for run in collected.runs])
    width = float(np.sqrt(np.average(np.square(widths), weights=events)))
    figures = [
        Figure("time_resolution", width, Threshold(0.5, 0.8, 1.15, 1.6), "ns", "spread of cluster less event time"),
        Figure("largest_run_residual", float(np.max(np.abs(after))), Threshold(None, None, 0.3, 1.0), "ns"),
        Figure("fewest_clusters", float(min(p.columns["hits"].min() for p in payloads)), Threshold(5, 10)),
    ]
    plot_over_runs(
        plots / "residuals.png",
        [run.run for run in collected.runs],
        {"before": (np.array(before), None), "after": (np.array(after), None)},
        title="mean cluster time less event time",
        ylabel="residual (ns)",
    )
    previous = previous_payload(kwargs.get("previous"), "SVDTimeCalibrations", requested_iov)
    if previous is not None:
        change = change_in_sigma(payloads[0].columns, previous, "slope")
        plot_distributions(
            plots / "previous.png",
            {"change": change},
            title="slopes against the bucket before",
            xlabel="change over its error",
        )
        figures.append(Figure("slope_drift", root_mean_square(change), Threshold(None, None, 1.5, 5), "sigma"))
        shift = float(np.mean(payloads[0].columns["offset"] - previous["offset"]))
        figures.append(Figure("offset_shift", shift, Threshold(-20, -15, 15, 20), "ns", "mean over the sensors"))
    return figures


def residuals(line: Columns, columns: Columns) -> tuple[float, float]:
    """Mean and spread of calibrated cluster time less event time, from sums per sensor."""
    offset, slope = columns["offset"], columns["slope"]
    total = line["n"].sum()
    mean = np.sum((line["y"] - offset * line["n"]) / slope - line["x"]) / total
    about = line["yy"] - 2 * offset * line["y"] - 2 * slope * line["xy"]
    about = about + offset**2 * line["n"] + 2 * offset * slope * line["x"] + slope**2 * line["xx"]
    return float(mean), float(np.sqrt(max(np.sum(about / slope**2) / total - mean**2, 0)))
