"""Energy of the collisions in their rest frame, from the mass of muon pairs."""

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SingleIOV
from b2cal_detector.algorithms.ecms import CollisionMassAlgorithm
from b2cal_detector.collectors.beam import CollisionEnergyCollector
from b2cal_detector.configuration import JOB_MEMORY, Count, ExpertConfig, Positive
from b2cal_detector.selection import chosen_files, open_ended

INPUTS = ("mumu4S",)


class Config(ExpertConfig):
    """``min_events``: muon pairs needed; ``eCMSmumuSpread`` (GeV): known spread of the collision energy."""

    min_events: Count = 500
    eCMSmumuSpread: Positive = 5.2e-3  # noqa: N815 (the key of the original script)


settings = CalibrationSettings(
    name="Ecms Calibrations",
    expert_username="beam-expert",
    subsystem="beam",
    description=__doc__ or "",
    input_data_formats=frozenset({"cdst"}),
    input_data_names=frozenset(INPUTS),
    input_data_filters={"mumu4S": ("mumu_tight_or_highm_calib", "Good Or Recoverable", "4S", "physics", "On")},
    depends_on=("BoostVector Calibrations",),
    expert_config=Config.defaults(),
    produced_payloads=("CollisionInvariantMass",),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """One calibration on all runs."""
    config = Config.read(kwargs["expert_config"], settings.name)
    collection = Collection(
        collector=CollisionEnergyCollector(),
        input_files=chosen_files(input_data, INPUTS, config),
        max_jobs=config.max_jobs,
        memory=JOB_MEMORY,
    )
    step = Step(
        CollisionMassAlgorithm(config.min_events, config.eCMSmumuSpread),
        SingleIOV(apply_iov=open_ended(kwargs["requested_iov"])),
    )
    return [Calibration("InvariantMass", {"default": collection}, [step], max_iterations=0)]
