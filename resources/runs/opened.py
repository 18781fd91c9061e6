"""Which list of runs, besides our own registry, an installation reads."""

from b2cal_core.ports import RunSource
from resources.deployment import RunsSettings
from resources.runs.rundb import RunDb
from resources.secret_values import Secret


def open_run_source(settings: RunsSettings) -> RunSource | None:
    """The list that the deployment names, or ``None``; nothing is asked before it is used."""
    if settings.server is None:
        return None
    return RunDb(settings.server, Secret(settings.token, "the token of the run registry") if settings.token else None)
