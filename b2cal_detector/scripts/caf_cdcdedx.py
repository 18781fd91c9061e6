"""Gains of runs and wires for the energy loss in the drift chamber, from electrons."""

from typing import Any

from b2cal_caf.calibration import Calibration, Collection, InputData, Step
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import SequentialRunByRun, SingleIOV
from b2cal_detector.algorithms.dedx import DedxRunGainAlgorithm, DedxWireGainAlgorithm
from b2cal_detector.collectors.dedx import DedxCollector
from b2cal_detector.configuration import JOB_MEMORY, Count, ExpertConfig, Share
from b2cal_detector.selection import chosen_files, open_ended

INPUTS = ("bhabha_all_calib",)


class Config(ExpertConfig):
    """Hits needed for the gain of a run and of a wire; ``min_wires``, the share of wires that must have them."""

    min_hits_per_run: Count = 20000
    min_hits_per_wire: Count = 10
    min_wires: Share = 0.9


settings = CalibrationSettings(
    name="CDC dedx",
    expert_username="dedx-expert",
    subsystem="cdc",
    description=__doc__ or "",
    input_data_formats=frozenset({"cdst"}),
    input_data_names=frozenset(INPUTS),
    input_data_filters={tag: (tag, "Good Or Recoverable", "4S", "physics", "On") for tag in INPUTS},
    expert_config=Config.defaults(),
    produced_payloads=("CDCDedxRunGain", "CDCDedxWireGain"),
)


def get_calibrations(input_data: InputData, **kwargs: Any) -> list[Calibration]:  # noqa: ANN401 (the interface of scripts)
    """Two calibrations: ``rungain0``, not saved, takes the run gains out so that ``wiregain0`` sees the wires alone."""
    config = Config.read(kwargs["expert_config"], settings.name)
    output_iov = open_ended(kwargs["requested_iov"])
    files = chosen_files(input_data, INPUTS, config)

    def collection() -> dict[str, Collection]:
        return {"default": Collection(DedxCollector(), files, max_jobs=config.max_jobs, memory=JOB_MEMORY)}

    run_gains = Step(DedxRunGainAlgorithm(config.min_hits_per_run), SequentialRunByRun(iov_coverage=output_iov))
    wire_gains = Step(
        DedxWireGainAlgorithm(config.min_hits_per_wire, config.min_wires), SingleIOV(apply_iov=output_iov)
    )
    first = Calibration("rungain0", collection(), [run_gains], max_iterations=0, save_payloads=False)
    second = Calibration("wiregain0", collection(), [wire_gains], max_iterations=0)
    second.depends_on(first)
    return [first, second]
