"""Where state lives: every path below one home directory. Nothing here reads or writes what the paths hold."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.settings import asset_name

if TYPE_CHECKING:
    from b2cal_core.campaigns import Site

HOME_VARIABLE = "B2CAL_HOME"
DEFAULT_HOME = "b2cal-home"


@dataclass(frozen=True, slots=True)
class WorkArea:
    """A directory where buckets are worked; ``path`` is absolute."""

    path: Path

    @property
    def cache(self) -> Path:
        """Collected output, by content."""
        return self.path / "cache"

    @property
    def work_dir(self) -> Path:
        """All work directories."""
        return self.path / "work"

    def work(self, campaign: str, bucket: Bucket | str) -> Path:
        """The work directory of one bucket, given as such or by its key."""
        return self.work_dir / campaign / (bucket if isinstance(bucket, str) else bucket.key)

    def request(self, campaign: str, bucket: Bucket | str, *, calibration: str) -> Path:
        """The CAF request directory of one calibration."""
        return self.work(campaign, bucket) / asset_name(calibration)

    def validation(self, campaign: str, bucket: Bucket | str, *, calibration: str) -> Path:
        """Plots and figures of one calibration."""
        return self.request(campaign, bucket, calibration=calibration) / "validation"

    def cdst(self, campaign: str, bucket: Bucket | str) -> Path:
        """The bucket's cDST files."""
        return self.work(campaign, bucket) / "cdst"


@dataclass(frozen=True, slots=True)
class Home(WorkArea):
    """The directory that holds all state of an installation; ``path`` becomes absolute, whether it exists or not.

    Raises:
        ConfigurationError: the path holds a character that a database address cannot.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.abspath(Path(self.path).expanduser())))  # noqa: PTH100 (links stay as the user wrote them)
        if "?" in str(self.path):
            raise ConfigurationError(
                f"the home directory must not have a ? in its path, got {self.path}; choose another"
            )

    @classmethod
    def from_environment(cls) -> Self:
        """The home that ``B2CAL_HOME`` names, by default ``b2cal-home`` in the current directory."""
        return cls(Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME))

    def create(self) -> Self:
        """Make the directories that are missing, and return the home; ``BackendError`` when that is impossible."""
        own = (
            self.dagster_home,
            self.campaigns,
            self.catalogues,
            self.conditions_dir,
            self.cache,
            self.data,
            self.work_dir,
        )
        try:
            for directory in own:
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = (
                f"cannot make the home directory {self.path}: {error.strerror or error}; choose another with --home"
            )
            raise BackendError(message, transient=False) from error
        return self

    def area(self, site: "Site") -> WorkArea:
        """Where campaigns of a site have their work: in the home unless the site names a storage."""
        return WorkArea(Path(site.storage)) if site.storage else self

    def area_at_hand(self, site: "Site") -> WorkArea:
        """The same; ``BackendError`` when it is not there now, so that nothing is written where it will be mounted."""
        area = self.area(site)
        if not area.path.is_dir():
            raise BackendError(
                f"the storage {area.path} of the site is not there; mount it or make it, then ask again", transient=True
            )
        return area

    @property
    def dagster_home(self) -> Path:
        """Dagster's storage and its ``dagster.yaml``."""
        return self.path / "dagster"

    @property
    def campaigns(self) -> Path:
        """Campaign files, ``<name>.yaml``."""
        return self.path / "campaigns"

    @property
    def catalogues(self) -> Path:
        """One directory per release, with ``catalogue.json`` and ``release.json``."""
        return self.path / "catalogues"

    @property
    def registry(self) -> Path:
        """The database file of runs, buckets and decisions."""
        return self.path / "registry.db"

    @property
    def registry_url(self) -> str:
        """The same as an SQLAlchemy address."""
        return f"sqlite:///{self.registry}"

    @property
    def conditions_dir(self) -> Path:
        """The embedded conditions database and its payload files."""
        return self.path / "conditions"

    @property
    def data(self) -> Path:
        """Simulated detector data."""
        return self.path / "data"

    @property
    def demo_lock(self) -> Path:
        """Held by a running demo."""
        return self.path / "demo.lock"
