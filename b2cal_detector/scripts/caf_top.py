"""Common time offset of the TOP counter, run by run; runs that are too short are taken together."""

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SequentialRunByRun
from b2cal_detector.algorithms.top import TopCommonT0Algorithm
from b2cal_detector.collectors.top import TopTimeCollector
from b2cal_detector.configuration import JOB_MEMORY, Count, ExpertConfig, Positive
from b2cal_detector.selection import chosen_files, open_ended

INPUTS = ("mumu_tight_or_highm_calib",)


class Config(ExpertConfig):
    """``min_entries``, events per payload; ``window`` (ns) of the fit to either side of the median."""

    min_entries: Count = 200
    window: Positive = 2.5


settings = CalibrationSettings(
    name="TOP common T0",
    expert_username="top-expert",
    subsystem="top",
    description=__doc__ or "",
    input_data_formats=frozenset({"cdst"}),
    input_data_names=frozenset(INPUTS),
    input_data_filters={tag: (tag, "Good Or Recoverable", "physics", "On") for tag in INPUTS},
    expert_config=Config.defaults(),
    produced_payloads=("TOPCalCommonT0",),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """One calibration, run by run."""
    config = Config.read(kwargs["expert_config"], settings.name)
    strategy = SequentialRunByRun(iov_coverage=open_ended(kwargs["requested_iov"]))
    collection = Collection(
        collector=TopTimeCollector(),
        input_files=chosen_files(input_data, INPUTS, config),
        max_jobs=config.max_jobs,
        memory=JOB_MEMORY,
    )
    algorithm = TopCommonT0Algorithm(config.min_entries, config.window)
    return [Calibration("commonT0", {"default": collection}, [Step(algorithm, strategy)], max_iterations=0)]
