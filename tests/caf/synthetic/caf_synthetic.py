"""A calibration script whose behaviour is chosen by expert_config; it counts events, and writes down what it does."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import hist
import numpy as np
import uproot

from b2cal_caf.calibration import (
    Algorithm,
    Calibration,
    Collection,
    Collector,
    ConditionsReader,
    Execution,
    Step,
    Sums,
    Table,
)
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import CalibrationSettings
from b2cal_core.strategies import AlgResult, SequentialBoundaries, SequentialRunByRun, SimpleRunByRun, SingleIOV

settings = CalibrationSettings(
    name="Synthetic",
    input_data_formats=["raw"],
    input_data_names=["beam"],
    produced_payloads=["Mean"],
    expert_config={
        "calibrations": [{"name": "first"}],
        "collector": {},
        "granularity": "run",
        "max_files_per_job": None,
        "max_jobs": None,
        "vector": None,
    },
)


def diary(line: str) -> None:
    """Write down what was done where the test asks for it."""
    if "SYNTHETIC_DIARY" in os.environ:
        with Path(os.environ["SYNTHETIC_DIARY"]).open("a") as file:
            file.write(line + "\n")


@dataclass(frozen=True)
class Counter(Collector):
    """Counts events and sums their values; may misbehave on files of given names."""

    scale: float = 1.0
    raises: tuple[str, ...] = ()
    kills: tuple[str, ...] = ()
    kills_once: tuple[str, ...] = ()
    fills_disk: tuple[str, ...] = ()
    hungry: tuple[str, ...] = ()
    sleepy: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    waits_for: str = ""

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> dict:
        diary(f"collect {file.name}")
        self.misbehave(file)
        with uproot.open(file) as root:
            values = root["tree"]["x"].array(library="np") * self.scale
        filled = hist.Hist(hist.axis.Regular(4, 0, 400, name="x", label="value"), storage=hist.storage.Weight())
        filled.fill(values)
        return {
            "count": Sums(events=np.array([len(values)]), total=np.array([values.sum()])),
            "values": Table(x=values),
            "spectrum": filled,
        } | self.more(run, conditions)

    def more(self, run: ExpRun, conditions: ConditionsReader) -> dict:
        return {}

    def misbehave(self, file: Path) -> None:
        if file.name in self.raises:
            raise ValueError(f"cannot digest {file.name}")
        if file.name in self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if file.name in self.kills_once:
            marker = file.with_suffix(".killed")
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        while self.waits_for and not Path(self.waits_for).exists():
            time.sleep(0.005)
        if file.name in self.fills_disk:
            raise OSError(28, "No space left on device")
        if file.name in self.hungry:
            kept = bytearray(900 * 2**20)
            kept[::4096] = b"x" * len(kept[::4096])
            time.sleep(2)
        if file.name in self.sleepy:
            time.sleep(3)
        if file.name in self.breaks:
            os.truncate(file, 50)


@dataclass(frozen=True)
class CounterOfAll(Counter):
    granularity = "all"


@dataclass(frozen=True)
class CounterWithConstants(Counter):
    reads = ("Start",)

    def more(self, run: ExpRun, conditions: ConditionsReader) -> dict:
        start = conditions.columns("Start", run)["value"][0] if conditions.has("Start", run) else 0.0
        return {"start": Sums(total=np.array([start]))}


@dataclass(frozen=True)
class CounterWithMean(Counter):
    reads = ("Mean",)

    def more(self, run: ExpRun, conditions: ConditionsReader) -> dict:
        mean = conditions.columns("Mean", run)["value"][0] if conditions.has("Mean", run) else -1.0
        return {"previous": Sums(total=np.array([mean]))}


@dataclass(frozen=True)
class UndeclaredReader(Counter):
    def more(self, run: ExpRun, conditions: ConditionsReader) -> dict:
        conditions.columns("Start", run)
        return {}


COLLECTORS = {
    kind.__name__: kind for kind in (Counter, CounterOfAll, CounterWithConstants, CounterWithMean, UndeclaredReader)
}


class Mean(Algorithm):
    """Saves the mean; answers what it is told to."""

    def __init__(self, options: dict) -> None:
        self.options = options

    def calibrate(self, execution: Execution) -> AlgResult:
        diary(f"calibrate {self.options['name']} {execution.iteration} {execution.iov}")
        does = self.options.get("does", "ok")
        if does == "raise":
            raise RuntimeError("the fit did not converge")
        if does == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if does in {"not_enough_data", "failure"}:
            return AlgResult(does)
        count = execution.data.sums("count")
        assert len(execution.data.table("values")["x"]) == count["events"][0]
        assert execution.data.hist("spectrum").sum(flow=True).value == count["events"][0]
        execution.save("Mean", {"value": count["total"] / count["events"], "events": count["events"]})
        for name in self.options.get("also", []):
            seen = execution.data.sums(name)["total"]
            execution.save(f"Seen_{name}", {"value": seen})
        if self.options.get("shows_chain"):
            found = [execution.conditions.columns("Mean", run)["value"][0] for run in execution.runs[:1]]
            execution.save("Shown", {"value": np.array(found)})
        return AlgResult.iterate if does == "iterate" else AlgResult.ok


class Vector(Algorithm):
    """The algorithm of the recorded answers."""

    def __init__(self, case: dict) -> None:
        self.case = case

    def calibrate(self, execution: Execution) -> AlgResult:
        events = {(exp, run): number for exp, run, number in self.case["runs"]}
        total = sum(events[tuple(run)] for run in execution.runs)
        execution.save("Vector", {"events": np.array([total]), "runs": np.array([len(execution.runs)])})
        if any(list(run) in self.case["bad"] for run in execution.runs):
            return AlgResult.failure
        if total < self.case["minimum"]:
            return AlgResult.not_enough_data
        listed = self.case["iterate"]
        return AlgResult.iterate if total in listed or (listed and total % 7 == 0) else AlgResult.ok


def strategy_of(name: str, options: dict):
    """The strategy of that name with what the options say."""
    iov = {key: IoV(*options[key]) for key in ("apply_iov", "iov_coverage") if options.get(key)}
    coverage = iov.get("iov_coverage")
    if name == "SingleIOV":
        return SingleIOV(iov.get("apply_iov"))
    if name == "SequentialRunByRun":
        return SequentialRunByRun(options.get("step_size", 1), coverage)
    if name == "SequentialBoundaries":
        return SequentialBoundaries(tuple(ExpRun(*pair) for pair in options["payload_boundaries"]), coverage)
    return SimpleRunByRun()


def get_calibrations(input_data, **kwargs):
    config = kwargs["expert_config"]
    files = {Path(file): ExpRun(iov.exp_low, iov.run_low) for file, iov in input_data["beam"].items()}
    collector = COLLECTORS[config["collector"].get("class", "Counter")]
    fields = {key: value for key, value in config["collector"].items() if key != "class"}
    made = {}
    for options in config["calibrations"]:
        own = fields | options.get("collector", {})
        collection = Collection(collector(**own), files, config["max_files_per_job"], config["max_jobs"])
        case = config["vector"]
        algorithm = Mean(options) if case is None else Vector(case)
        strategy = strategy_of(options.get("strategy", "SingleIOV"), options if case is None else case)
        calibration = Calibration(options["name"], {"default": collection}, [Step(algorithm, strategy)])
        calibration.max_iterations = options.get("max_iterations")
        calibration.ignored_runs = [ExpRun(*pair) for pair in options.get("ignored_runs", [])]
        calibration.save_payloads = options.get("save_payloads", True)
        made[options["name"]] = calibration
    for options in config["calibrations"]:
        for needed in options.get("depends_on", []):
            made[options["name"]].depends_on(made[needed])
    return [made[options["name"]] for options in config["calibrations"] if options.get("returned", True)]
