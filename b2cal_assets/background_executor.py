"""Steps that take the processor time that others leave."""

import os
from typing import Any, cast

import dagster as dg
from dagster import Executor, InitExecutorContext

from b2cal_caf.forks import NICENESS
from b2cal_core.errors import ConfigurationError


def stepping_aside(executor: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """The same executor, whose Dagster run with all its steps and jobs works in the background.

    Dagster makes the executor once, in the process that works the Dagster run and from which its steps are started.

    Raises:
        ConfigurationError: the executor is of a kind that nothing makes.
    """
    make = executor.executor_creation_fn
    if make is None:
        raise ConfigurationError(f"executor {executor.name} cannot be made; name one that can, such as multiprocess")

    def create(context: InitExecutorContext) -> Executor:
        os.nice(NICENESS)
        return make(context)

    return dg.ExecutorDefinition(
        executor.name,
        config_schema=cast("Any", executor.config_schema),  # a finished schema is taken too, which is not declared
        requirements=executor.get_requirements,
        executor_creation_fn=create,
        description=executor.description,
    )
