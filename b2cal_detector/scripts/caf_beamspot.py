"""Position and size of the beam spot; the algorithm finds the intervals in which it stays where it is."""

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SingleIOV
from b2cal_detector.algorithms.beam_spot import BeamSpotAlgorithm
from b2cal_detector.collectors.beam import BeamSpotCollector
from b2cal_detector.configuration import JOB_MEMORY, Count, ExpertConfig, Positive
from b2cal_detector.selection import chosen_files, open_ended

INPUTS = ("mumu_tight_or_highm_calib",)


class Config(ExpertConfig):
    """``min_events`` per interval; ``penalty``, the improvement of chi square that justifies one more interval."""

    min_events: Count = 300
    penalty: Positive = 30.0


settings = CalibrationSettings(
    name="BeamSpot Calibrations",
    expert_username="beam-expert",
    subsystem="beam",
    description=__doc__ or "",
    input_data_formats=frozenset({"cdst"}),
    input_data_names=frozenset(INPUTS),
    input_data_filters={tag: (tag, "Good Or Recoverable", "physics", "On") for tag in INPUTS},
    depends_on=("TOP common T0", "CDC dedx"),
    expert_config=Config.defaults(),
    produced_payloads=("BeamSpot",),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """One calibration on all runs, whose algorithm makes its own intervals."""
    config = Config.read(kwargs["expert_config"], settings.name)
    collection = Collection(
        collector=BeamSpotCollector(),
        input_files=chosen_files(input_data, INPUTS, config),
        max_jobs=config.max_jobs,
        memory=JOB_MEMORY,
    )
    step = Step(
        BeamSpotAlgorithm(config.min_events, config.penalty), SingleIOV(apply_iov=open_ended(kwargs["requested_iov"]))
    )
    return [Calibration("BeamSpot", {"default": collection}, [step], max_iterations=0)]
