"""Validation of the time zeros of the drift-chamber wires."""

from pathlib import Path
from typing import Any

import numpy as np

from b2cal_core.ranges import IoV
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from b2cal_detector.finished_job import FinishedJob, change_in_sigma, previous_payload, root_mean_square
from b2cal_detector.plots import plot_distributions

settings = ValidationSettings(name="CDC Tracking", description=__doc__ or "")


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of residuals before and after, and against the bucket before."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    payloads = job.payloads("tz0", "CDCTimeZeros")
    first, last = (job.collected("tz0", iteration).sums("residuals") for iteration in (0, -1))
    known = [np.isfinite(payload.columns["t0_err"]) for payload in payloads]
    means = {
        label: sums["residual"][sums["weight"] > 0] / sums["weight"][sums["weight"] > 0]
        for label, sums in {"first pass": first, "last pass": last}.items()
    }
    before, after = _resolution(first), _resolution(last)
    figures = [
        Figure("hit_resolution", after, Threshold(1.5, 2.2, 2.7, 3.5), "ns", "spread of residuals in the last pass"),
        Figure("resolution_after_over_before", after / before, Threshold(None, None, 1.01, 1.1)),
        Figure("mean_residual_width", float(means["last pass"].std()), Threshold(None, None, 0.1, 0.5), "ns"),
        Figure("calibrated_wires", float(np.mean(known)), Threshold(0.9, 0.98), "", "share of wires with enough hits"),
    ]
    plot_distributions(
        plots / "residuals.png", means, title="mean residual of each wire, before and after", xlabel="residual (ns)"
    )
    previous = previous_payload(kwargs.get("previous"), "CDCTimeZeros", requested_iov)
    if previous is not None:
        change = change_in_sigma(payloads[0].columns, previous, "t0")
        plot_distributions(
            plots / "previous.png",
            {"change": change},
            title="time zeros against the bucket before",
            xlabel="change over its error",
        )
        figures.append(Figure("drift", root_mean_square(change), Threshold(None, None, 2, 6), "sigma"))
    return figures


def _resolution(sums: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sums["square"].sum() / sums["weight"].sum()))
