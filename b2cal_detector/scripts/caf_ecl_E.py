"""Energy constants of the calorimeter crystals, from Bhabha and from two-photon events, and their average."""  # noqa: N999 (the name of the original script)

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, DummyCollector, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SingleIOV
from b2cal_detector.algorithms.ecl import EclEnergyAlgorithm, EclMergeAlgorithm
from b2cal_detector.collectors.ecl import EclEnergyCollector
from b2cal_detector.configuration import JOB_MEMORY, Count, ExpertConfig, Share
from b2cal_detector.selection import chosen_files, open_ended

BHABHA, GAMMA_GAMMA = "bhabha_all_calib", "gamma_gamma_calib"
SAMPLES = {BHABHA: "ECLCrystalEnergyee5x5", GAMMA_GAMMA: "ECLCrystalEnergyGammaGamma"}


class Config(ExpertConfig):
    """Clusters needed per crystal in either sample, and ``min_crystals``, the share of crystals that must have them."""

    ee5x5_min_entries: Count = 10
    gamma_gamma_min_entries: Count = 5
    min_crystals: Share = 0.9


settings = CalibrationSettings(
    name="ecl_energy",
    expert_username="ecl-expert",
    subsystem="ecl",
    description=__doc__ or "",
    input_data_formats=frozenset({"cdst"}),
    input_data_names=frozenset(SAMPLES),
    input_data_filters={tag: (tag, "Good Or Recoverable", "physics", "On") for tag in SAMPLES},
    expert_config=Config.defaults(),
    produced_payloads=("ECLCrystalEnergy", *SAMPLES.values()),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """Two independent calibrations, one per sample, and a third that reads no data and waits for both."""
    config = Config.read(kwargs["expert_config"], settings.name)
    strategy = SingleIOV(apply_iov=open_ended(kwargs["requested_iov"]))
    minimum = {BHABHA: config.ee5x5_min_entries, GAMMA_GAMMA: config.gamma_gamma_min_entries}
    samples = []
    for tag, payload in SAMPLES.items():
        collection = Collection(
            EclEnergyCollector(),
            chosen_files(input_data, (tag,), config),
            max_jobs=config.max_jobs,
            memory=JOB_MEMORY,
        )
        step = Step(EclEnergyAlgorithm(payload, minimum[tag], config.min_crystals), strategy)
        samples.append(Calibration(payload, {"default": collection}, [step], max_iterations=0))
    any_file = dict(list(chosen_files(input_data, (BHABHA,), config).items())[:1])
    merge = Calibration(
        "ecl_energy_merge",
        {"default": Collection(DummyCollector(), any_file, memory=JOB_MEMORY)},
        [Step(EclMergeAlgorithm(tuple(SAMPLES.values())), strategy)],
        max_iterations=0,
    )
    for sample in samples:
        merge.depends_on(sample)
    return [*samples, merge]
