"""Campaigns and catalogues as files of the home directory; the book of buckets beside the run registry."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from b2cal_caf.atomic_files import write_atomically
from b2cal_core.buckets import BookedBucket, Bucket
from b2cal_core.campaign_states import CampaignChange, CampaignState, CampaignVersion, check_apart
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import BackendError, CalibrationError, CatalogueError, ConfigurationError
from b2cal_core.ports import CampaignStore
from b2cal_core.settings import Catalogue
from resources.campaigns.embedded_book import BucketBook
from resources.campaigns.embedded_states import CampaignStates
from resources.deployment import registry_address
from resources.home import Home

EDITED_BY_HAND = "unknown"
"""The author of a text that came into a campaign's file without the log; its time is when that was found."""


class FileCampaignStore(CampaignStore):
    """Campaigns and catalogues below a home directory."""

    def __init__(self, home: Home) -> None:
        self._home = home

    @cached_property
    def _book(self) -> BucketBook:
        return BucketBook(registry_address(self._home))

    @cached_property
    def _log(self) -> CampaignStates:
        return CampaignStates(registry_address(self._home))

    def names(self) -> tuple[str, ...]:
        """The campaigns that have a file, whether it is valid or not."""
        return tuple(sorted(file.stem for file in self._home.campaigns.glob("*.yaml")))

    def campaign(self, name: str) -> Campaign:
        """The campaign; ``ConfigurationError`` when there is none or its file is not valid."""
        file = self._home.campaigns / f"{name}.yaml"
        if not file.is_file():
            known = ", ".join(self.names()) or "none; create one with b2cal campaign create"
            raise ConfigurationError(f"no campaign is called {name!r}; there are {known}")
        campaign = parse_campaign(_read(file), str(file))
        if campaign.name != name:
            raise ConfigurationError(
                f"{file} holds a campaign called {campaign.name!r}; file and campaign must share the name"
            )
        return campaign

    def states(self) -> dict[str, CampaignState]:
        """Every campaign that has a file, and whether it works."""
        names = self.names()
        last = self._log.last() if names else {}
        return {name: last.get(name, CampaignState.active) for name in names}

    def changes(self, name: str) -> tuple[CampaignChange, ...]:
        """Who changed the state of a campaign, in order."""
        return self._log.changes(name)

    def change_state(self, change: CampaignChange) -> None:
        """Log a change of a campaign's state; one that comes back from the archive must have its tags for itself."""
        campaign = self.campaign(change.campaign)
        if change.state is not CampaignState.archived:
            check_apart(campaign, self._others())
        self._log.record(change)

    def _others(self) -> Iterator[Campaign]:
        """The campaigns that are not archived and can be read."""
        for name, state in self.states().items():
            if state is not CampaignState.archived:
                with suppress(ConfigurationError):
                    yield self.campaign(name)

    def campaign_text(self, name: str) -> str:
        """The text of a campaign's file, which must be there."""
        return _read(self._home.campaigns / f"{name}.yaml")

    def save_campaign(self, text: str, *, author: str = "b2cal") -> Campaign:
        """Check a campaign's YAML text against its catalogue and keep it; an earlier one of the name is replaced."""
        campaign = self.check_campaign(text)
        self._log_what_is_there(campaign.name)
        self._log.record_file(CampaignVersion(campaign.name, author, text, datetime.now(UTC)))
        _write(self._home.campaigns / f"{campaign.name}.yaml", text)
        return campaign

    def versions(self, name: str) -> tuple[CampaignVersion, ...]:
        """Every text that a campaign was given, in order; the file may have been edited by hand since the last."""
        return self._log.files(name)

    def _log_what_is_there(self, name: str) -> None:
        """Log the text of the file that is to be replaced, where it was edited by hand or is older than the log."""
        logged = [version.text for version in self._log.files(name)[-1:]]
        if name in self.names():
            with suppress(ConfigurationError):  # what is no text cannot be logged as one
                text = self.campaign_text(name)
                if [text] != logged:
                    self._log.record_file(CampaignVersion(name, EDITED_BY_HAND, text, datetime.now(UTC)))

    def check_campaign(self, text: str, source: str = "campaign") -> Campaign:
        """The campaign in the text; ``ConfigurationError`` when it does not fit itself or its catalogue."""
        campaign = parse_campaign(text, source)
        catalogue = self.catalogue(campaign.catalogue)
        try:
            campaign.fitted_to(catalogue)
        except CatalogueError as error:
            raise ConfigurationError(f"{source}, calibrations: {error}") from error
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}, {error}") from error
        check_apart(campaign, self._others())
        return campaign

    def releases(self) -> tuple[str, ...]:
        """The releases whose catalogue is known, by name."""
        return tuple(sorted(file.parent.name for file in self._home.catalogues.glob("*/release.json")))

    def catalogue(self, release: str) -> Catalogue:
        """The catalogue of a release; ``ConfigurationError`` when there is none."""
        return Catalogue.from_json(self._release_file(release, "catalogue.json"))

    def scripts(self, release: str) -> Path:
        """The directory with the scripts of a release; ``ConfigurationError`` when it is gone."""
        named = self._release_file(release, "release.json").get("scripts")
        if not isinstance(named, str):
            raise ConfigurationError(
                f"{self._home.catalogues / release / 'release.json'} does not say where the scripts are;"
                f" import them again: b2cal catalogue import DIR --release {release}"
            )
        directory = Path(named)
        if not directory.is_dir():
            raise ConfigurationError(
                f"the scripts of release {release} were in {directory}, which is gone; "
                f"put them back or import them again: b2cal catalogue import DIR --release {release}"
            )
        return directory

    def save_catalogue(self, release: str, catalogue: Catalogue, *, scripts: Path) -> None:
        """Keep a release's catalogue and where its scripts are; an earlier one of the name is replaced."""
        if not release or not all(part.isalnum() for part in release.replace(".", "-").replace("_", "-").split("-")):
            raise ConfigurationError(f"a release is named with letters, digits and . - _ between them, got {release!r}")
        directory = self._home.catalogues / release
        _write(directory / "catalogue.json", json.dumps(catalogue.to_json(), indent=1))
        _write(directory / "release.json", json.dumps({"scripts": str(scripts.resolve())}))

    def buckets(self, campaign: str) -> tuple[Bucket, ...]:
        """The campaign's buckets in order."""
        return tuple(entry.bucket for entry in self._book.entries(campaign))

    def book(self, campaign: str) -> tuple[BookedBucket, ...]:
        """The buckets in order, with who closed them and when."""
        return self._book.entries(campaign)

    def add_bucket(self, campaign: str, bucket: Bucket, *, closed_by: str) -> Bucket:
        """Book a bucket; the same one again is harmless, one that overlaps another raises ``ConflictError``."""
        return self._book.add(campaign, bucket, closed_by=closed_by)

    def fingerprint(self) -> str:
        """Another one whenever a campaign, its state, a catalogue or a script was changed since."""
        found = list(self._home.campaigns.glob("*.yaml"))
        for release in self.releases():
            found += self._files_of(release)
        return _digest(found, sorted(self.states().items()))

    def fingerprint_of(self, name: str) -> str:
        """Another one whenever the campaign's file, or the catalogue or a script of its release, was changed since."""
        found = list(self._home.campaigns.glob(f"{name}.yaml"))
        with suppress(CalibrationError):
            found += self._files_of(self.campaign(name).catalogue)
        return _digest(found)

    def _files_of(self, release: str) -> list[Path]:
        """The files of a release's catalogue, and its scripts as far as they are there."""
        found = list(self._home.catalogues.joinpath(release).glob("*.json"))
        with suppress(CalibrationError):
            found += self.scripts(release).glob("*.py")
        return found

    def _release_file(self, release: str, name: str) -> dict[str, Any]:
        file = self._home.catalogues / release / name
        if not file.is_file():
            known = ", ".join(self.releases()) or "none"
            raise ConfigurationError(
                f"there is no catalogue of release {release!r}, known are {known}; "
                f"import one: b2cal catalogue import DIR --release {release}"
            )
        try:
            fields = json.loads(_read(file))
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{file} is damaged: {error}; import the release {release} again") from error
        if not isinstance(fields, dict):
            raise ConfigurationError(
                f"{file} is damaged: it holds no keys and values; import the release {release} again"
            )
        return fields


def _digest(files: Iterable[Path], others: object = None) -> str:
    """Another one whenever one of the files came, went or was written, or something else changed."""
    stats = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(files)]
    return hashlib.sha256(f"{stats} {others}".encode()).hexdigest()


def parse_campaign(text: str, source: str) -> Campaign:
    """The campaign in YAML text; ``ConfigurationError`` names ``source``, the key or the line."""
    try:
        mapping = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source} is not YAML: {error}") from error
    if not isinstance(mapping, Mapping):
        raise ConfigurationError(f"{source} must hold keys and values, as a campaign file does")
    return Campaign.from_mapping(mapping, source)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise BackendError(f"{file} cannot be read: {error.strerror or error}", transient=True) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is not text in UTF-8: {error}") from error


def _write(file: Path, text: str) -> None:
    try:
        write_atomically(file, text.encode())
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror or error}; see that its disk has room and may be written"
        raise BackendError(message, transient=True) from error
