"""What one installation uses: read from ``deployment.yaml`` in its home, or all embedded when there is no such file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from b2cal_core.errors import ConfigurationError, reasons_of
from resources.home import Home
from resources.notify.settings import NotifySettings, PersonSettings, TicketSettings
from resources.secret_values import SecretSource

_FROM_ENVIRONMENT = "env:"
_SERVER_ADDRESS = re.compile(r"mysql\+pymysql://([^/?#]+@)?[^/?#@]+/[^/?#]+(\?[^#]*)?$")
_PASSWORD = re.compile(r"[^:]+://[^/@]*:[^/]*@")


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(_Settings):
    """Where the registry (runs, buckets, decisions), the conditions and Dagster keep their tables.

    Attributes:
        database: SQLAlchemy address of a MariaDB database, ``mysql+pymysql://user@host/name``; ``env:NAME`` takes it,
            with its password, from that environment variable. By default SQLite in the home.
    """

    database: str | None = None

    @model_validator(mode="after")
    def _keeps_no_password(self) -> "StorageSettings":
        if self.database is not None and not self.database.startswith(_FROM_ENVIRONMENT):
            check_server_address(self.database, "database")
            if _PASSWORD.match(self.database):
                raise ValueError(
                    "an address with a password is not for this file; put it into an environment variable"
                    " and name that: env:NAME"
                )
        return self


class ConditionsSettings(_Settings):
    """Which conditions database is used.

    Attributes:
        kind: ``embedded``, or ``belle2`` for a server with Belle II's REST interface.
        database: SQLAlchemy address of the tables, for example ``mysql+pymysql://user@host/name``; ``env:NAME`` takes
            it, with its password, from that environment variable. By default that of ``storage``. For ``belle2`` it
            holds the log, the leases and the provenance, which the server does not keep.
        server: for ``belle2``, the address, ending in ``/b2s/rest``.
        allowed_hosts: other hosts than this one that may be written to; none by default.
        token_file: for ``belle2``, the file with the token, readable by its owner only.
    """

    kind: Literal["embedded", "belle2"] = "embedded"
    database: str | None = None
    server: str | None = None
    allowed_hosts: frozenset[str] = frozenset()
    token_file: Path | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> "ConditionsSettings":
        if (self.kind == "belle2") != (self.server is not None):
            raise ValueError("a server is named for the kind belle2, and for no other")
        if self.kind == "embedded" and (self.token_file or self.allowed_hosts):
            raise ValueError("token_file and allowed_hosts are for the kind belle2")
        return self


class RunsSettings(_Settings):
    """Where runs come from besides the feeds that people ingest.

    Attributes:
        kind: ``embedded`` for nowhere else, or ``rundb`` for Belle II's run registry, whose runs are mirrored.
        server: for ``rundb``, the address below which ``runs/`` is, for example ``https://rundb.example.org/rest/v1``.
        token: for ``rundb``, ``file:PATH`` of a file that only its owner may read, or ``env:NAME``.
        again_days: runs that started in so many days are read again every hour, for changes of their quality.
    """

    kind: Literal["embedded", "rundb"] = "embedded"
    server: str | None = None
    token: SecretSource | None = None
    again_days: float = Field(default=30, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _belongs_together(self) -> "RunsSettings":
        if (self.kind == "rundb") != (self.server is not None):
            raise ValueError("a server is named for the kind rundb, and for no other")
        if self.kind == "embedded" and self.token is not None:
            raise ValueError("token is for the kind rundb")
        return self


class PublishingSettings(_Settings):
    """How publishing is guarded.

    Attributes:
        four_eyes: the approver of a publish must be another than its author.
        processed_formats: a run with registered files of one of these formats, for example ``mdst``, counts as
            processed with the tags that match ``processed_targets``: its constants do not change any more. By default
            only what `b2cal cdb processed` notes counts.
        processed_targets: shell pattern of tag names.
    """

    four_eyes: bool = False
    processed_formats: tuple[str, ...] = ()
    processed_targets: str = "*"


class CollectorCacheSettings(_Settings):
    """How much is kept of what was collected.

    Attributes:
        limit_gb: above so many GB, outputs that were not used for longest are removed; no limit by default.
    """

    limit_gb: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @property
    def limit(self) -> int | None:
        """The same in bytes."""
        return None if self.limit_gb is None else round(self.limit_gb * 1e9)


class LocalBatchSettings(_Settings):
    """This machine as a batch system.

    Attributes:
        memory: MB that jobs running at the same time may be given together; by default it is not added up.
    """

    memory: int | None = Field(default=None, gt=0)


class HTCondorSettings(_Settings):
    """The HTCondor pool that this machine submits to.

    Attributes:
        schedd: the name of the queue; by default that of this machine.
        lines: more lines of the submit description, such as ``accounting_group``.
        python: the interpreter of the jobs; by default ours, which must be on the shared file system.
    """

    schedd: str | None = None
    lines: Mapping[str, str | bool | int | float] = {}
    python: str | None = None


class SlurmSettings(_Settings):
    """The Slurm cluster that this machine submits to.

    Attributes:
        partition: by default that of the cluster.
        options: more options of ``sbatch``, such as ``--account=belle2``.
        python: as for HTCondor.
    """

    partition: str | None = None
    options: tuple[str, ...] = ()
    python: str | None = None


class BatchSettings(_Settings):
    """What is to be known of each batch system; campaigns choose one of them with ``site: {batch: …}``."""

    local: LocalBatchSettings = LocalBatchSettings()
    htcondor: HTCondorSettings = HTCondorSettings()
    slurm: SlurmSettings = SlurmSettings()


class Basf2Settings(_Settings):
    """The basf2 release that campaigns with ``site: {caf: basf2}`` use.

    Attributes:
        setup: shell lines that set it up, for example ``source /cvmfs/belle.cern.ch/tools/b2setup release-09-00-00``.
        backend: where basf2 runs its jobs.
        options: those of ``b2caf-prompt-run``, without the dashes and with ``_`` in their names.
    """

    setup: str = ""
    backend: Literal["Local", "LSF", "PBS", "HTCondor"] = "Local"
    options: Mapping[str, int | str] = {}


class Deployment(_Settings):
    """All settings of an installation.

    Attributes:
        dagster_address: where people open the pages that notices point to.
        code_locations: whether one code server shows all campaigns, or each campaign has its own.
    """

    storage: StorageSettings = StorageSettings()
    conditions: ConditionsSettings = ConditionsSettings()
    runs: RunsSettings = RunsSettings()
    publishing: PublishingSettings = PublishingSettings()
    collector_cache: CollectorCacheSettings = CollectorCacheSettings()
    batch: BatchSettings = BatchSettings()
    basf2: Basf2Settings = Basf2Settings()
    people: Mapping[str, PersonSettings] = {}
    notify: NotifySettings = NotifySettings()
    tickets: TicketSettings = TicketSettings()
    dagster_address: str = ""
    code_locations: Literal["one", "per_campaign"] = "one"


def read_deployment(home: Home) -> Deployment:
    """The settings of a home; ``ConfigurationError`` naming file and key when they are wrong."""
    file = home.path / "deployment.yaml"
    try:
        mapping = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return Deployment.model_validate(mapping)
    except FileNotFoundError:
        return Deployment()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}; mend it, or remove it for the defaults") from error
    except ValidationError as error:
        raise ConfigurationError(f"{file} is wrong: {reasons_of(error)}; docs/reference.md lists the keys") from error


def registry_address(home: Home) -> str:
    """The SQLAlchemy address of the registry of runs, buckets and decisions, with its password.

    Raises:
        ConfigurationError: the deployment names a database that is none of MariaDB, or a variable that is not set.
    """
    return storage_address(read_deployment(home)) or home.registry_url


def storage_address(deployment: Deployment) -> str | None:
    """The address of the one database for everything, with its password; ``None`` for SQLite in the home."""
    database = deployment.storage.database
    if database is None:
        return None
    address = from_environment(database)
    try:
        check_server_address(address, "storage.database")
    except ValueError as error:
        raise ConfigurationError(f"the deployment's {error}; mend what {database} says") from error
    return address


def check_server_address(address: str, key: str) -> None:
    """``ValueError`` naming the key, but not the address, when it does not say where a MariaDB database is."""
    if not _SERVER_ADDRESS.match(address):
        raise ValueError(f"{key} must be mysql+pymysql://user@host/name or env:NAME, and is not")


def from_environment(value: str, environment: Mapping[str, str] = os.environ) -> str:
    """The value itself, or what the environment says where it is ``env:NAME``."""
    if not value.startswith(_FROM_ENVIRONMENT):
        return value
    name = value.removeprefix(_FROM_ENVIRONMENT)
    try:
        return environment[name]
    except KeyError as error:
        raise ConfigurationError(f"the deployment takes a value from {name}, which is not set; set it") from error
