"""Velocity of the collisions, from muon pairs that are made to come from the beam spot."""

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SingleIOV
from b2cal_detector.algorithms.boost import BoostVectorAlgorithm
from b2cal_detector.collectors.beam import BoostCollector
from b2cal_detector.configuration import JOB_MEMORY, Count, ExpertConfig
from b2cal_detector.selection import chosen_files, open_ended

INPUTS = ("mumu_tight_or_highm_calib",)


class Config(ExpertConfig):
    """``min_events``: muon pairs needed."""

    min_events: Count = 500


settings = CalibrationSettings(
    name="BoostVector Calibrations",
    expert_username="beam-expert",
    subsystem="beam",
    description=__doc__ or "",
    input_data_formats=frozenset({"cdst"}),
    input_data_names=frozenset(INPUTS),
    input_data_filters={tag: (tag, "Good Or Recoverable", "physics", "On") for tag in INPUTS},
    depends_on=("BeamSpot Calibrations",),
    expert_config=Config.defaults(),
    produced_payloads=("CollisionBoostVector",),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """One calibration on all runs."""
    config = Config.read(kwargs["expert_config"], settings.name)
    collection = Collection(
        collector=BoostCollector(),
        input_files=chosen_files(input_data, INPUTS, config),
        max_jobs=config.max_jobs,
        memory=JOB_MEMORY,
    )
    step = Step(BoostVectorAlgorithm(config.min_events), SingleIOV(apply_iov=open_ended(kwargs["requested_iov"])))
    return [Calibration("BoostVector", {"default": collection}, [step], max_iterations=0)]
