"""A Dagster logger for commands, which show their own progress."""

import logging

import dagster as dg


def _silent(_context: dg.InitLoggerContext) -> logging.Logger:
    """A logger of its own, out of the tree, so that no handler of another hears it."""
    logger = logging.Logger("b2cal.dagster")  # noqa: LOG001 (see above)
    logger.addHandler(logging.NullHandler())
    return logger


quiet_logger = dg.LoggerDefinition(_silent, description="Writes nothing; the events are in Dagster's storage.")
