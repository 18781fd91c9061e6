"""Validation of the energy of the collisions."""

from pathlib import Path
from typing import Any

import numpy as np

from b2cal_core.ranges import IoV
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from b2cal_detector.finished_job import FinishedJob, change_in_sigma, previous_payload
from b2cal_detector.plots import plot_distributions, plot_over_runs

settings = ValidationSettings(name="Ecms Calibrations", description=__doc__ or "")
_GEV_IN_MEV = 1e3


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of the mass of muon pairs, altogether and over runs."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    columns = job.payloads("InvariantMass", "CollisionInvariantMass")[0].columns
    collected = job.collected("InvariantMass")
    masses = collected.table("pairs")["mass"]
    mass, error = float(columns["mass"][0]), float(columns["mass_err"][0])
    core = masses[np.abs(masses - mass) < 0.1]  # noqa: PLR2004 (GeV; the radiative tail is left out)
    figures = [
        Figure("mass", mass, Threshold(10.5, 10.56, 10.6, 10.66), "GeV"),
        Figure("error", _GEV_IN_MEV * error, Threshold(None, None, 1, 5), "MeV"),
        Figure("resolution_over_expected", float(columns["resolution_scale"][0]), Threshold(0.7, 0.9, 1.15, 1.5)),
        Figure("pairs_in_peak", core.size / max(masses.size, 1), Threshold(0.5, 0.8), "", "share within 0.1 GeV"),
    ]
    plot_distributions(plots / "mass.png", {"pairs": core}, title="mass of muon pairs", xlabel="mass (GeV)")
    tables = {run: collected.of([run]).table("pairs") for run in collected.runs}
    medians = {run: float(np.median(table["mass"])) for run, table in tables.items() if table}
    previous = previous_payload(kwargs.get("previous"), "CollisionInvariantMass", requested_iov)
    plot_over_runs(
        plots / "mass_over_runs.png",
        [run.run for run in medians],
        {
            "median of each run": (np.array(list(medians.values())), None),
            "payload": (np.full(len(medians), mass), None),
        },
        title="mass of muon pairs",
        ylabel="mass (GeV)",
        previous=None if previous is None else float(previous["mass"][0]),
    )
    if previous is not None:
        change = abs(float(change_in_sigma(columns, previous, "mass")[0]))
        figures.append(Figure("drift", change, Threshold(None, None, 6, 20), "sigma", "from the bucket before"))
    return figures
