"""Validation of the gains for the energy loss in the drift chamber."""

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

settings = ValidationSettings(name="CDC dedx", description=__doc__ or "")


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of the mean charge over runs and of wires, before and after."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    wires = job.payloads("wiregain0", "CDCDedxWireGain")[0].columns
    runs = job.payloads("wiregain0", "CDCDedxRunGain")
    collected = job.collected("rungain0")
    start = job.before("CDCDedxWireGain", collected.runs[0]) or {"gain": np.ones_like(wires["gain"])}
    before, after = [], []
    for run in collected.runs:
        sums = collected.of([run]).sums("charges")
        hits = sums["hits"].sum()
        before.append(sums["charge"].sum() / hits)
        gain = payload_of(runs, run).columns["gain"][0]
        after.append(np.sum(sums["charge"] * start["gain"] / wires["gain"]) / (hits * gain))
    known = np.isfinite(wires["gain_err"])
    deviation = np.abs(np.array(after) - 1)
    figures = [
        Figure("largest_run_deviation", float(deviation.max()), Threshold(None, None, 0.05, 0.1), "", "from 1"),
        Figure("calibrated_wires", float(known.mean()), Threshold(0.9, 0.98), "", "share of wires with enough hits"),
        Figure("mean_wire_error", float(wires["gain_err"][known].mean()), Threshold(None, None, 0.08, 0.2)),
        Figure("wire_gain_width", float(wires["gain"][known].std()), Threshold(None, None, 0.15, 0.3)),
        Figure("lowest_wire_gain", float(wires["gain"][known].min()), Threshold(0.2, 0.5)),
    ]
    previous_wires = previous_payload(kwargs.get("previous"), "CDCDedxWireGain", requested_iov)
    previous_runs = previous_payload(kwargs.get("previous"), "CDCDedxRunGain", requested_iov)
    plot_over_runs(
        plots / "run_gains.png",
        [run.run for run in collected.runs],
        {"before": (np.array(before), None), "after": (np.array(after), None)},
        title="mean charge of electrons",
        ylabel="charge over expected",
        previous=None if previous_runs is None else float(previous_runs["gain"][0]),
    )
    plot_distributions(plots / "wire_gains.png", {"gain": wires["gain"]}, title="gain of the wires", xlabel="gain")
    if previous_wires is not None:
        change = change_in_sigma(wires, previous_wires, "gain")
        plot_distributions(
            plots / "previous.png",
            {"change": change},
            title="wire gains against the bucket before",
            xlabel="change over its error",
        )
        figures.append(Figure("wire_drift", root_mean_square(change), Threshold(None, None, 1.5, 5), "sigma"))
    return figures
