"""Validation of the velocity of the collisions."""

from pathlib import Path
from typing import Any

import numpy as np

from b2cal_core.ranges import IoV
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from b2cal_detector.finished_job import FinishedJob, change_in_sigma, previous_payload
from b2cal_detector.plots import plot_over_runs

settings = ValidationSettings(name="BoostVector Calibrations", description=__doc__ or "")


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of the velocity over runs."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    columns = job.payloads("BoostVector", "CollisionBoostVector")[0].columns
    collected = job.collected("BoostVector")
    vector = np.array([columns[axis][0] for axis in "xyz"])
    sums = {run: collected.of([run]).sums("velocity") for run in collected.runs}
    runs = [run for run, each in sums.items() if each and each["n"][0] > 1]
    means = np.array([sums[run]["sum"] / sums[run]["n"] for run in runs])
    squares = np.array([sums[run]["square"] / sums[run]["n"] for run in runs])
    counts = np.array([sums[run]["n"] for run in runs])
    spread = np.sqrt(np.sum((squares - means**2) * counts, axis=0) / (counts.sum(axis=0) - len(runs)))
    errors = spread / np.sqrt(counts)
    left = np.sum(((means - vector) / errors) ** 2)
    figures = [
        Figure(
            "scatter_of_runs", float(left / max(3 * (len(runs) - 1), 1)), Threshold(None, None, 2, 5), "", "chi²/ndf"
        ),
        Figure("largest_error", float(max(columns[f"{a}_err"][0] for a in "xyz")), Threshold(None, None, 5e-5, 1e-3)),
        Figure("largest_spread", float(spread.max()), Threshold(None, None, 2e-3, 1e-2), "", "of single pairs"),
        Figure("speed", float(np.linalg.norm(vector)), Threshold(0.26, 0.27, 0.282, 0.29)),
    ]
    previous = previous_payload(kwargs.get("previous"), "CollisionBoostVector", requested_iov)
    for position, axis in enumerate("xyz"):
        plot_over_runs(
            plots / f"velocity_{axis}.png",
            [run.run for run in runs],
            {
                "each run": (means[:, position], errors[:, position]),
                "payload": (np.full(len(runs), vector[position]), None),
            },
            title=f"{axis} of the boost vector",
            ylabel="velocity",
            previous=None if previous is None else float(previous[axis][0]),
        )
    if previous is not None:
        change = max(abs(float(change_in_sigma(columns, previous, axis)[0])) for axis in "xyz")
        figures.append(Figure("drift", change, Threshold(None, None, 8, 30), "sigma", "from the bucket before"))
    return figures
