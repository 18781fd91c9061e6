"""What a calibration script says of itself, and the catalogue of all scripts of a release.

Source: basf2 prompt calibration, CalibrationSettings and ValidationSettings; rules in the field comments.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from b2cal_core.errors import CatalogueError, reasons_of
from b2cal_core.filters import category_of
from b2cal_core.graphs import CycleError, topological_order, transitive

DATA_FORMATS = frozenset({"raw", "cdst", "mdst", "udst"})


def asset_name(name: str) -> str:
    """The calibration's name as it stands in asset keys, folders and commands: lower case, words joined by ``_``.

    >>> asset_name("CDC dedx Hadron Calibrations")
    'cdc_dedx_hadron_calibrations'
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _has_an_asset_name(name: str) -> str:
    if not asset_name(name):
        msg = f"a calibration's name needs a letter or a digit, got {name!r}"
        raise ValueError(msg)
    return name


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_has_an_asset_name)]


def _json_ready(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        msg = f"expert_config must be JSON-serialisable: {error}"
        raise ValueError(msg) from error
    return value


class CalibrationSettings(BaseModel):
    """The settings of one calibration script; refuses unknown fields.

    ``depends_on`` orders tasks in the automatic system only; it takes names or other settings, and holds names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    expert_username: str = ""
    subsystem: str = ""
    description: str = ""
    input_data_formats: frozenset[str] = Field(min_length=1)
    input_data_names: frozenset[str] = Field(min_length=1)
    input_data_filters: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    expert_config: dict[str, Any] = Field(default_factory=dict)
    produced_payloads: tuple[str, ...] = ()

    @field_validator("input_data_formats", mode="before")
    @classmethod
    def _lower_case(cls, value: Iterable[str]) -> frozenset[str]:
        formats = frozenset(item.lower() for item in ([value] if isinstance(value, str) else value))
        if not formats <= DATA_FORMATS:
            msg = f"unknown data formats {sorted(formats - DATA_FORMATS)}; known are {sorted(DATA_FORMATS)}"
            raise ValueError(msg)
        return formats

    @field_validator("depends_on", mode="before")
    @classmethod
    def _names_only(cls, value: "Sequence[str | CalibrationSettings] | str") -> tuple[str, ...]:
        listed = [value] if isinstance(value, str | CalibrationSettings) else value
        return tuple(item.name if isinstance(item, CalibrationSettings) else item for item in listed)

    @field_validator("expert_config")
    @classmethod
    def _serialisable(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _json_ready(value)

    @model_validator(mode="after")
    def _filters_fit(self) -> Self:
        if self.input_data_filters and set(self.input_data_filters) != self.input_data_names:
            differ = sorted(set(self.input_data_filters) ^ self.input_data_names)
            msg = f"input_data_filters and input_data_names must have the same keys, they differ in {differ}"
            raise ValueError(msg)
        for wanted in self.input_data_filters.values():
            for value in wanted:
                category_of(value)
        return self

    @property
    def stage(self) -> str:
        """``raw`` when the calibration belongs before cDST production, else ``cdst``."""
        return "raw" if "raw" in self.input_data_formats else "cdst"

    def json_dumps(self) -> str:
        """All fields as JSON, keys and sets sorted; this is what an automatic system reads."""
        fields = self.model_dump()
        for key in ("input_data_formats", "input_data_names"):
            fields[key] = sorted(fields[key])
        return json.dumps(fields, sort_keys=True)


class ValidationSettings(BaseModel):
    """The settings of one validation script; ``name`` is the calibration's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    description: str = ""
    download_files: tuple[str, ...] = ()
    expert_config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("expert_config")
    @classmethod
    def _serialisable(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _json_ready(value)


class Catalogue:
    """The calibration scripts of one release.

    Args:
        scripts: script name (file name without ``.py``) to its settings, in the order they are listed.

    Raises:
        CatalogueError: two scripts share a name, a dependency is unknown, or dependencies form a cycle;
            the message names the path.
    """

    def __init__(self, scripts: Mapping[str, CalibrationSettings]) -> None:
        self._by_name: dict[str, CalibrationSettings] = {}
        self._script_of: dict[str, str] = {}
        for script, settings in scripts.items():
            if settings.name in self._by_name:
                other = self._script_of[settings.name]
                msg = f"scripts {other} and {script} share the name {settings.name!r}; rename one"
                raise CatalogueError(msg)
            self._by_name[settings.name] = settings
            self._script_of[settings.name] = script
        self._refuse_twin_assets()
        self._refuse_unknown_dependencies()
        try:
            self._order = topological_order({name: s.depends_on for name, s in self._by_name.items()})
        except CycleError as error:
            path = " -> ".join(error.path)
            msg = f"dependencies form a cycle: {path}; remove one of these from depends_on"
            raise CatalogueError(msg) from error

    @classmethod
    def from_json(cls, mapping: Mapping[str, Mapping[str, Any]]) -> Self:
        """The catalogue in a mapping of script name to the fields of its settings."""
        scripts = {}
        for script, fields in mapping.items():
            try:
                scripts[script] = CalibrationSettings.model_validate(dict(fields))
            except ValidationError as error:
                msg = f"the settings of script {script} are not valid: {reasons_of(error)}"
                raise CatalogueError(msg) from error
        return cls(scripts)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """The mapping that ``from_json`` reads."""
        return {self._script_of[name]: json.loads(s.json_dumps()) for name, s in self._by_name.items()}

    def __getitem__(self, name: str) -> CalibrationSettings:
        self._require(name)
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def script(self, name: str) -> str:
        """The script that holds the calibration."""
        self._require(name)
        return self._script_of[name]

    def order(self) -> tuple[str, ...]:
        """All names, dependencies first; names without an order between them stay as listed."""
        return self._order

    def dependencies(self, name: str) -> tuple[str, ...]:
        """All that must be done before ``name``, directly or not, dependencies first."""
        self._require(name)
        needed = transitive(name, {key: s.depends_on for key, s in self._by_name.items()})
        return tuple(other for other in self._order if other in needed)

    def find(self, word: str) -> str:
        """The name meant by a calibration's name, its script name or its asset name, tried in this order."""
        if word not in self._by_name:
            meant = {asset_name(name): name for name in self._by_name}
            meant |= {script: name for name, script in self._script_of.items()}
            word = meant.get(word, word)
        self._require(word)
        return word

    def _require(self, name: str) -> None:
        if name not in self._by_name:
            msg = f"no calibration is called {name!r}; the catalogue has {', '.join(self._by_name) or 'none'}"
            raise CatalogueError(msg)

    def _refuse_twin_assets(self) -> None:
        seen: dict[str, str] = {}
        for name in self._by_name:
            twin = seen.setdefault(asset_name(name), name)
            if twin != name:
                msg = f"calibrations {twin!r} and {name!r} would share the asset name {asset_name(name)!r}; rename one"
                raise CatalogueError(msg)

    def _refuse_unknown_dependencies(self) -> None:
        for name, settings in self._by_name.items():
            for needed in settings.depends_on:
                if needed not in self._by_name:
                    msg = f"calibration {name!r} depends on {needed!r}, which no script of the catalogue provides"
                    raise CatalogueError(msg)
