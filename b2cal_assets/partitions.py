"""Partitions: what the assets are divided by, and how keys are written.

Buckets divide everything a campaign makes, runs divide what the detector delivers. A sensor adds the keys of both.
"""

import re

import dagster as dg

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun

RUNS = dg.DynamicPartitionsDefinition(name="runs")
_RUN_KEY = re.compile(r"e(\d{4,})r(\d{5,})")

# Dagster's own mapping for two different partitions is "all of them", which would make every bucket stale whenever a
# run is registered, and read thousands of versions per step. A bucket's key says which runs it has.
RUNS_OF_A_BUCKET = dg.SpecificPartitionsPartitionMapping([])


def bucket_partitions(campaign: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of a campaign; their name starts with the campaign's because names are global in Dagster."""
    return dg.DynamicPartitionsDefinition(name=bucket_partitions_name(campaign))


def bucket_partitions_name(campaign: str) -> str:
    """The name under which Dagster keeps the buckets of a campaign."""
    return f"{campaign}_buckets"


def run_key(run: ExpRun) -> str:
    """The partition key of a run, padded so that keys sort as runs do: ``e0012r00001``."""
    return f"e{run.exp:04d}r{run.run:05d}"


def run_of_key(key: str) -> ExpRun:
    """The run with this partition key; ``ConfigurationError`` when the text is no key."""
    found = _RUN_KEY.fullmatch(key)
    if not found:
        raise ConfigurationError(f"{key!r} is not the key of a run; keys look like e0012r00001")
    return ExpRun(int(found[1]), int(found[2]))
