"""The batch system that a site names."""

from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import BatchBackend

KINDS = ("local", "htcondor", "slurm")


def open_batch(kind: str, *, max_processes: int | None = None) -> BatchBackend:
    """The batch system of a kind; nothing is asked of it yet.

    Args:
        kind: one of ``KINDS``.
        max_processes: processors for jobs of the local one; those of others are the pool's.

    Raises:
        ConfigurationError: there is no such kind, or what it needs is not installed.
    """
    if kind == "local":
        from resources.batch.local import LocalBatch  # noqa: PLC0415 (each loads only what it needs)

        return LocalBatch(max_processes)
    if kind == "htcondor":
        from resources.batch.htcondor import HTCondorBatch  # noqa: PLC0415

        return HTCondorBatch()
    if kind == "slurm":
        from resources.batch.slurm import SlurmBatch  # noqa: PLC0415

        return SlurmBatch()
    raise ConfigurationError(f"there is no batch system {kind!r}; a site has one of {', '.join(KINDS)}")
