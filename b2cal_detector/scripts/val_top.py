"""Validation of the common time offset of the TOP counter."""

from pathlib import Path
from typing import Any

import numpy as np

from b2cal_core.ranges import IoV
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from b2cal_detector.finished_job import FinishedJob, payload_of, previous_payload
from b2cal_detector.plots import plot_counts, plot_over_runs

settings = ValidationSettings(name="TOP common T0", description=__doc__ or "")


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of the offset over runs and of residuals before and after."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    payloads = job.payloads("commonT0", "TOPCalCommonT0")
    collected = job.collected("commonT0")
    offsets = np.array([payload_of(payloads, run).columns["t0"][0] for run in collected.runs])
    edges, before, after, left = _shifted(collected, offsets)
    errors = np.concatenate([p.columns["t0_err"] for p in payloads])
    widths = np.concatenate([p.columns["width"] for p in payloads])
    figures = [
        Figure("largest_width", float(widths.max()), Threshold(0.05, 0.1, 0.35, 0.6), "ns", "of TOP less event time"),
        Figure("largest_error", float(errors.max()), Threshold(None, None, 0.03, 0.1), "ns"),
        Figure("largest_run_residual", float(np.abs(left).max()), Threshold(None, None, 0.2, 0.5), "ns"),
    ]
    plot_counts(
        plots / "residuals.png",
        edges,
        {"before": before, "after": after},
        title="TOP time less event time, before and after",
        xlabel="residual (ns)",
    )
    previous = previous_payload(kwargs.get("previous"), "TOPCalCommonT0", requested_iov)
    plot_over_runs(
        plots / "offset.png",
        [run.run for run in collected.runs],
        {"t0": (offsets, np.array([payload_of(payloads, run).columns["t0_err"][0] for run in collected.runs]))},
        title="common T0",
        ylabel="t0 (ns)",
        previous=None if previous is None else float(previous["t0"][0]),
    )
    if previous is not None:
        step = float(payloads[0].columns["t0"][0] - previous["t0"][0])
        figures.append(Figure("step", step, Threshold(-2, -0.5, 0.5, 2), "ns", "from the bucket before"))
    return figures


def _shifted(collected: Any, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # noqa: ANN401 (a view of collected data)
    """Edges around the peak, all entries before and after the offsets are taken off, and each run's median after."""
    histograms = [collected.of([run]).hist("residuals") for run in collected.runs]
    edges = histograms[0].axes[0].edges
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.stack([histogram.values() for histogram in histograms])
    shown = np.linspace(-4, 4, 161)
    before = np.histogram(centres, shown, weights=counts.sum(axis=0))[0]
    moved = np.concatenate([centres - offset for offset in offsets])
    after = np.histogram(moved, shown, weights=counts.ravel())[0]
    medians = [np.interp(0.5 * each.sum(), np.cumsum(each), edges[1:]) for each in counts]
    return shown, before, after, np.array(medians) - offsets
