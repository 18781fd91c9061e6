"""What the assets of a campaign are built from: its file, its catalogue and where its scripts are."""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key, import_key, published_key
from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import CatalogueError, ConfigurationError
from b2cal_core.graphs import weight_behind
from b2cal_core.local_calibrations import LocalSource, import_name
from b2cal_core.ports import CampaignStore
from b2cal_core.settings import CalibrationSettings, Catalogue

_SCRIPT, _VALIDATION = "caf_", "val_"
CDST = "cdst"
"""The step that makes cDST files, where steps go by the names of their calibrations."""
PRIORITY = 100
"""What one more of a campaign's priority is worth, in jobs' priorities: more steps than ever follow each other."""


@dataclass(frozen=True, eq=False)
class CampaignPlan:
    """A campaign whose calibrations are known; ``scripts`` is the directory of the release's scripts."""

    campaign: Campaign
    catalogue: Catalogue
    scripts: Path

    @classmethod
    def read(cls, store: CampaignStore, name: str) -> Self:
        """The plan of a campaign of the store; ``ConfigurationError`` when file, catalogue or scripts are unfit."""
        campaign = store.campaign(name)
        return cls(campaign, store.catalogue(campaign.catalogue), store.scripts(campaign.catalogue)).checked()

    def checked(self) -> Self:
        """The plan with what is set per calibration under the calibrations' own names.

        Raises:
            CatalogueError: a calibration is unknown, or depends on a later stage.
            ConfigurationError: something is set for a calibration that the campaign does not have, or an import is
                called like a calibration.
        """
        doubled = [name for name in self.calibrations if name in self.imports]
        if doubled:
            raise ConfigurationError(
                f"local_calibrations: the import {doubled[0]} is called like a calibration; rename the subsystem"
            )
        for name in self.raw_stage:
            late = [other for other in self.upstream(name) if other in self.cdst_stage]
            if late:
                raise CatalogueError(
                    f"calibration {name!r} of the raw stage depends on {late[0]!r}, which reads cDST files made "
                    "after that stage; remove the dependency or let it read cDST files too"
                )
        return replace(self, campaign=self.campaign.fitted_to(self.catalogue))

    @property
    def name(self) -> str:
        """The campaign's name."""
        return self.campaign.name

    @cached_property
    def calibrations(self) -> tuple[str, ...]:
        """The calibrations of the campaign, dependencies first."""
        return self.campaign.calibrations_of(self.catalogue)

    @cached_property
    def raw_stage(self) -> tuple[str, ...]:
        """The calibrations that come before cDST production."""
        return tuple(name for name in self.calibrations if self.catalogue[name].stage == "raw")

    @cached_property
    def cdst_stage(self) -> tuple[str, ...]:
        """The calibrations that read cDST files; those that read what others make of them need no production here."""
        read = {name: self.catalogue[name].input_data_formats for name in self.calibrations}
        return tuple(name for name, formats in read.items() if "cdst" in formats and "raw" not in formats)

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """The imports of local calibrations, one for each subsystem, by their names as steps."""
        return tuple(self.campaign.imported)

    def sources(self, name: str) -> tuple[LocalSource, ...]:
        """The tags that an import takes its payloads from."""
        found = self.campaign.local_calibrations.items()
        return next(sources for subsystem, sources in found if import_name(subsystem) == name)

    def produced(self, name: str) -> tuple[str, ...]:
        """The payloads that an import brings in, or that a calibration declares to make."""
        return self.campaign.imported[name] if name in self.imports else self.settings(name).produced_payloads

    def settings(self, calibration: str) -> CalibrationSettings:
        """What the calibration's script says of itself."""
        return self.catalogue[calibration]

    def asset_keys(self) -> tuple[dg.AssetKey, ...]:
        """All assets of a bucket, in the order of the work: imports, calibrations, and what is made of all of them."""
        imports = tuple(import_key(self.name, name) for name in self.imports)
        parts = tuple(calibration_key(self.name, name, part) for name in self.calibrations for part in Part)
        production = (cdst_key(self.name),) if self.cdst_stage else ()
        return (*imports, *parts, *production, published_key(self.name))

    def import_of(self, key: dg.AssetKey) -> str | None:
        """The import whose asset this is; ``None`` when it is another asset."""
        return next((name for name in self.imports if import_key(self.name, name) == key), None)

    def calibration_of(self, key: dg.AssetKey) -> str:
        """The calibration whose asset this is."""
        return self.catalogue.find(key.path[1])

    def upstream(self, calibration: str) -> tuple[str, ...]:
        """The calibrations of the campaign that must be done before, directly or not, dependencies first."""
        return tuple(name for name in self.catalogue.dependencies(calibration) if name in self.calibrations)

    def nearest(self, calibration: str) -> tuple[str, ...]:
        """The calibrations it depends on directly; one that is not in the campaign is replaced by those before it."""
        found: dict[str, None] = {}
        for name in self.settings(calibration).depends_on:
            found |= dict.fromkeys([name] if name in self.calibrations else self.nearest(name))
        return tuple(found)

    def priority(self, step: str) -> int:
        """That of the jobs of a calibration, or of ``cdst``: the campaign's, in hundreds, and the steps behind it."""
        return PRIORITY * self.campaign.priority + self._behind[step]

    @cached_property
    def _behind(self) -> dict[str, int]:
        """Calibration, or ``cdst``, to how many steps follow it on the longest way to the end of the bucket."""
        needs = {
            name: [*self.nearest(name), *([CDST] if name in self.cdst_stage else [])] for name in self.calibrations
        }
        needs[CDST] = list(self.raw_stage)
        return weight_behind(needs, dict.fromkeys(needs, 1))

    def visible(self, calibration: str) -> tuple[str, ...]:
        """Whose new payloads a calibration sees: imports, those upstream, and those behind its cDST files."""
        seen = set(self.upstream(calibration))
        if calibration in self.cdst_stage:
            seen |= set(self.raw_stage)
        return (*self.imports, *(name for name in self.calibrations if name in seen))

    def expert_config(self, calibration: str) -> dict[str, Any]:
        """The script's configuration, its keys replaced by the campaign's."""
        return self.settings(calibration).expert_config | self.campaign.expert_config.get(calibration, {})

    def script(self, calibration: str) -> Path:
        """The calibration's script."""
        return self.scripts / f"{self.catalogue.script(calibration)}.py"

    def validation_script(self, calibration: str) -> Path | None:
        """The script that validates the calibration, or ``None`` when it has none."""
        script = self.catalogue.script(calibration)
        file = self.scripts / f"{_VALIDATION}{script.removeprefix(_SCRIPT)}.py"
        return file if file.is_file() else None

    def owners(self, calibration: str | None = None) -> list[str]:
        """The calibration's expert, else the campaign's owner: an address, or ``team:`` and a name."""
        expert = self.settings(calibration).expert_username if calibration is not None else ""
        return dagster_owners(expert or self.campaign.owner)

    def import_owners(self, name: str) -> list[str]:
        """Those who fill the source tags of an import, else the campaign's owner."""
        named = dict.fromkeys(source.responsible for source in self.sources(name) if source.responsible)
        return [owner for person in named for owner in dagster_owners(person)] or self.owners()

    def group(self, step: str) -> str:
        """The asset group of a calibration, by its script's name, or of one of the bucket's own assets.

        Dagster's pictures name an asset by the last part of its key, and a group by as few letters: with one group for
        all of a campaign, nobody could tell one calibration's payloads from another's.
        """
        word = self.catalogue.script(step).removeprefix(_SCRIPT) if step in self.catalogue else step
        return f"{self.name}_{re.sub(r'[^A-Za-z0-9_]', '_', word)}"

    def asset_tags(self, calibration: str) -> dict[str, str]:
        """Words to filter the asset graph by."""
        settings = self.settings(calibration)
        subsystem = re.sub(r"[^A-Za-z0-9_.-]", "_", settings.subsystem)
        return {"stage": settings.stage, "kind": self.campaign.kind.value} | (
            {"subsystem": subsystem} if subsystem else {}
        )

    def staging_tag(self, bucket: Bucket) -> str:
        """The bucket's staging tag."""
        return self.campaign.staging_tag_of(bucket)


def dagster_owners(name: str) -> list[str]:
    """As Dagster takes owners: an address, or ``team:`` and a name; nobody for an empty name."""
    if not name:
        return []
    return [name if "@" in name else f"team:{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"]


def code_version(script: Path | None) -> str | None:
    """A short hash of a script; ``None`` when there is none, so that a missing file shows where it is used."""
    if script is None or not script.is_file():
        return None
    return hashlib.sha256(script.read_bytes()).hexdigest()[:12]
