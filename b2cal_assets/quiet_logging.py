"""A Dagster logger for commands, which show their own progress."""

import logging

import dagster as dg


@dg.logger(description="Writes nothing; the events are in Dagster's storage.")
def quiet_logger(_context: dg.InitLoggerContext) -> logging.Logger:
    """A logger that keeps silent."""
    logger = logging.Logger("b2cal.dagster")
    logger.addHandler(logging.NullHandler())
    return logger
