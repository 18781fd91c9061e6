"""Validation of the energy constants of the calorimeter crystals."""  # noqa: N999 (the name of the original script)

from pathlib import Path
from typing import Any

import numpy as np

from b2cal_core.ranges import IoV
from b2cal_core.settings import ValidationSettings
from b2cal_core.verdicts import Figure, Threshold
from b2cal_detector.finished_job import FinishedJob, change_in_sigma, previous_payload, root_mean_square
from b2cal_detector.plots import plot_distributions

settings = ValidationSettings(name="ecl_energy", description=__doc__ or "")
BHABHA, GAMMA_GAMMA = "ECLCrystalEnergyee5x5", "ECLCrystalEnergyGammaGamma"


def run_validation(
    job_path: Path,
    input_data_path: Path | None,  # noqa: ARG001 (the interface of scripts)
    requested_iov: IoV,
    expert_config: dict[str, Any],  # noqa: ARG001 (the interface of scripts)
    **kwargs: Any,  # noqa: ANN401 (the interface of scripts)
) -> list[Figure]:
    """Figures of merit and plots of energies before and after, of both samples, and against the bucket before."""
    job, plots = FinishedJob(job_path), kwargs["output_dir"]
    merged = job.payloads("ecl_energy_merge", "ECLCrystalEnergy")[0].columns
    bhabha, gamma = (job.payloads(name, name)[0].columns for name in (BHABHA, GAMMA_GAMMA))
    sums = job.collected(BHABHA).sums("ratios")
    before = job.before("ECLCrystalEnergy", job.collected(BHABHA).runs[0])
    seen = sums["n"] > 0
    energies = {
        label: (constant * sums["ratio"])[seen] / sums["n"][seen]
        for label, constant in {
            "before": np.ones_like(merged["constant"]) if before is None else before["constant"],
            "after": merged["constant"],
        }.items()
    }
    after = merged["constant"]
    spread = (
        np.sum(after**2 * sums["square"]) / sums["n"].sum() - (np.sum(after * sums["ratio"]) / sums["n"].sum()) ** 2
    )
    disagreement = change_in_sigma(bhabha, gamma, "constant")
    figures = [
        Figure("energy_resolution", float(np.sqrt(spread)), Threshold(0.02, 0.03, 0.06, 0.08), "", "Bhabha, after"),
        Figure("calibrated_crystals", float(np.isfinite(merged["constant_err"]).mean()), Threshold(0.9, 0.99)),
        Figure("sample_disagreement", root_mean_square(disagreement), Threshold(None, None, 1.2, 2), "sigma"),
        Figure("sample_offset", float(disagreement.mean()), Threshold(-0.4, -0.1, 0.1, 0.4), "sigma"),
    ]
    plot_distributions(
        plots / "energies.png", energies, title="mean energy of each crystal over expected", xlabel="energy / expected"
    )
    plot_distributions(
        plots / "samples.png",
        {"Bhabha less two-photon": disagreement},
        title="agreement of the two samples",
        xlabel="difference over its error",
    )
    previous = previous_payload(kwargs.get("previous"), "ECLCrystalEnergy", requested_iov)
    if previous is not None:
        change = change_in_sigma(merged, previous, "constant")
        plot_distributions(
            plots / "previous.png",
            {"change": change},
            title="constants against the bucket before",
            xlabel="change over its error",
        )
        figures.append(Figure("drift", root_mean_square(change), Threshold(None, None, 1.5, 5), "sigma"))
    return figures
