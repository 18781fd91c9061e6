"""What is done on the side takes the processor time that prompt leaves: the whole Dagster run, not only its jobs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from asset_fakes import Laboratory

from b2cal_assets.background_executor import NICENESS, stepping_aside
from b2cal_assets.definitions import service_executor
from b2cal_core.errors import ConfigurationError

WORK = """
import os
import dagster as dg
from b2cal_assets.background_executor import stepping_aside

@dg.op
def step():
    print(os.nice(0), flush=True)

@dg.job(executor_def=stepping_aside(dg.in_process_executor))
def on_the_side():
    step()

if __name__ == "__main__":
    print(os.nice(0), flush=True)
    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.execute_job(dg.reconstructable(on_the_side), instance).success
"""


def test_its_steps_run_in_the_background(tmp_path: Path) -> None:
    script = tmp_path / "side_work.py"
    script.write_text(WORK)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, within = map(int, done.stdout.split())
    assert within == min(19, before + NICENESS)


@pytest.mark.parametrize(
    ("campaign", "steps_aside"),
    [
        ({}, False),
        ({"kind": "recalibration"}, True),
        ({"priority": -1}, True),
        ({"kind": "recalibration", "priority": 0}, False),
    ],
)
def test_a_campaign_of_low_priority_is_worked_so(
    laboratory: Callable[..., Laboratory], campaign: dict[str, object], *, steps_aside: bool
) -> None:
    executor = service_executor(laboratory(campaign=campaign).plan)
    assert executor.name == "multiprocess"
    assert (executor.executor_creation_fn.__module__ == "b2cal_assets.background_executor") is steps_aside


def test_an_executor_that_nothing_makes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="executor none cannot be made"):
        stepping_aside(dg.ExecutorDefinition("none"))
