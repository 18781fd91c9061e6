"""Time zeros of the drift-chamber wires, iterated until they no longer move."""

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SequentialBoundaries, SingleIOV, Strategy
from b2cal_detector.algorithms.cdc import CdcTimeZeroAlgorithm
from b2cal_detector.collectors.cdc import CdcTimeCollector, CdcTimeRunCollector
from b2cal_detector.configuration import JOB_MEMORY, BoundedConfig, Count, Positive, Share
from b2cal_detector.selection import chosen_files, open_ended

INPUTS = ("hadron_calib", "mumu_tight_or_highm_calib")


class Config(BoundedConfig):
    """``min_hits`` per wire; ``min_wires``, share that must have them; ``convergence``, a move over its error."""

    max_jobs: Count = 4
    min_hits: Count = 20
    min_wires: Share = 0.95
    convergence: Positive = 0.5


settings = CalibrationSettings(
    name="CDC Tracking",
    expert_username="cdc-expert",
    subsystem="cdc",
    description=__doc__ or "",
    input_data_formats=frozenset({"raw"}),
    input_data_names=frozenset(INPUTS),
    input_data_filters={tag: (tag, "Good Or Recoverable", "physics", "On") for tag in INPUTS},
    expert_config=Config.defaults(),
    produced_payloads=("CDCTimeZeros",),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """One calibration, ``tz0``; with payload boundaries it is kept apart per run."""
    config = Config.read(kwargs["expert_config"], settings.name)
    output_iov = open_ended(kwargs["requested_iov"])
    bounded = bool(config.boundaries)
    strategy: Strategy = (
        SequentialBoundaries(config.boundaries, iov_coverage=output_iov) if bounded else SingleIOV(apply_iov=output_iov)
    )
    collection = Collection(
        collector=CdcTimeRunCollector() if bounded else CdcTimeCollector(),
        input_files=chosen_files(input_data, INPUTS, config),
        max_jobs=config.max_jobs,
        memory=JOB_MEMORY,
    )
    algorithm = CdcTimeZeroAlgorithm(config.min_hits, config.min_wires, config.convergence)
    return [Calibration("tz0", {"default": collection}, [Step(algorithm, strategy)], max_iterations=4)]
