"""The batch system that a site names."""

import os
import sys
from pathlib import Path

from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import BatchBackend
from resources.deployment import BatchSettings

KINDS = ("local", "htcondor", "slurm")


def open_batch(
    kind: str,
    settings: BatchSettings = BatchSettings(),  # noqa: B008 (frozen)
    *,
    max_processes: int | None = None,
) -> BatchBackend:
    """The batch system of a kind; nothing is asked of it yet.

    Args:
        kind: one of ``KINDS``.
        settings: what the deployment says of its batch systems.
        max_processes: processors for jobs of the local one; those of others are the pool's.

    Raises:
        ConfigurationError: there is no such kind, what it needs is not installed, or a setting is wrong.
    """
    if kind == "local":
        from resources.batch.local import LocalBatch  # noqa: PLC0415 (each loads only what it needs)

        return LocalBatch(max_processes, memory=settings.local.memory)
    if kind == "htcondor":
        from resources.batch.htcondor import HTCondorBatch  # noqa: PLC0415

        pool = settings.htcondor
        lines = {name: str(value) for name, value in pool.lines.items()}
        return HTCondorBatch(python=pool.python or sys.executable, schedd=pool.schedd, lines=lines)
    if kind == "slurm":
        from resources.batch.slurm import SlurmBatch  # noqa: PLC0415

        _check_slurm_conf()
        cluster = settings.slurm
        return SlurmBatch(python=cluster.python or sys.executable, partition=cluster.partition, options=cluster.options)
    raise ConfigurationError(f"there is no batch system {kind!r}; a site has one of {', '.join(KINDS)}")


def _check_slurm_conf() -> None:
    """Refuse a file that is not there at once: each of Slurm's commands would look for it for a minute."""
    named = os.environ.get("SLURM_CONF")
    if named and not Path(named).is_file():
        raise ConfigurationError(f"SLURM_CONF names {named}, which is no file; name the slurm.conf of your cluster")
