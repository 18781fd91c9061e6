"""The CAF and the validations that a site names."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from b2cal_core.campaigns import Site
from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import BatchBackend, Caf, ConditionsDB, ValidationRequest
from b2cal_core.verdicts import Figure
from resources.deployment import Basf2Settings, Deployment
from resources.home import Home

if TYPE_CHECKING:
    from resources.caf.basf2_options import Basf2Options

Validate = Callable[[ValidationRequest], Sequence[Figure]]


def open_caf(site: Site, home: Home, deployment: Deployment, *, batch: BatchBackend, conditions: ConditionsDB) -> Caf:
    """The CAF of a site; nothing is asked of it yet.

    Raises:
        ConfigurationError: an option of basf2 is none, or not one of its batch system.
    """
    if site.caf == "basf2":
        from resources.caf.basf2 import Basf2Caf  # noqa: PLC0415 (each loads only what it needs)
        from resources.caf.basf2_environment import Basf2Environment  # noqa: PLC0415

        used = deployment.basf2
        return Basf2Caf(Basf2Environment(used.setup), used.backend, _options(used), conditions=conditions)
    from resources.caf.embedded import EmbeddedCaf  # noqa: PLC0415

    return EmbeddedCaf(batch, conditions, home.area(site).cache, deployment.collector_cache.limit)


def open_validation(site: Site, deployment: Deployment) -> Validate:
    """What runs the validation scripts of a site; errors as for ``open_caf``."""
    if site.caf == "basf2":
        from resources.caf.basf2_environment import Basf2Environment  # noqa: PLC0415
        from resources.caf.basf2_validation import Basf2Validation  # noqa: PLC0415

        used = deployment.basf2
        return Basf2Validation(Basf2Environment(used.setup), used.backend, _options(used)).run
    from b2cal_caf.validation import run_validation_script  # noqa: PLC0415 (numerics load only where work is done)

    return run_validation_script


def _options(used: Basf2Settings) -> "Basf2Options":
    from resources.caf.basf2_options import Basf2Options  # noqa: PLC0415

    try:
        return Basf2Options(**dict(used.options))  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigurationError(f"basf2.options in deployment.yaml: {error}; docs/basf2.md lists them") from error
