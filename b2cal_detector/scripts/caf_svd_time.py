"""Time calibration of the vertex-detector sensors against the event times of the drift chamber."""

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SequentialBoundaries
from b2cal_detector.algorithms.svd import SvdTimeAlgorithm
from b2cal_detector.collectors.svd import SvdTimeCollector
from b2cal_detector.configuration import JOB_MEMORY, BoundedConfig, Count, Positive
from b2cal_detector.selection import chosen_files, open_ended

INPUTS = ("hadron_calib",)


class Config(BoundedConfig):
    """``min_hits`` per sensor; ``allowed_shift`` of raw times (ns) within an interval, when no boundary is given."""

    min_hits: Count = 10
    allowed_shift: Positive = 2.0


settings = CalibrationSettings(
    name="caf_svd_time",
    expert_username="svd-expert",
    subsystem="svd",
    description=__doc__ or "",
    input_data_formats=frozenset({"raw"}),
    input_data_names=frozenset(INPUTS),
    input_data_filters={tag: (tag, "Good Or Recoverable", "physics", "On") for tag in INPUTS},
    depends_on=("CDC Tracking",),
    expert_config=Config.defaults(),
    produced_payloads=("SVDTimeCalibrations",),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """One calibration; without payload boundaries the algorithm finds them."""
    config = Config.read(kwargs["expert_config"], settings.name)
    strategy = SequentialBoundaries(config.boundaries or None, iov_coverage=open_ended(kwargs["requested_iov"]))
    collection = Collection(
        collector=SvdTimeCollector(),
        input_files=chosen_files(input_data, INPUTS, config),
        max_jobs=config.max_jobs,
        memory=JOB_MEMORY,
    )
    algorithm = SvdTimeAlgorithm(config.min_hits, config.allowed_shift)
    return [Calibration("svd_time", {"default": collection}, [Step(algorithm, strategy)], max_iterations=0)]
