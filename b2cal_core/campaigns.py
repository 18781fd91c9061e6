"""A campaign: one named pass over the data, written as one YAML file.

The file holds what a manager decides; everything else (settings of scripts, buckets, results) is found elsewhere.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from string import Formatter
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from b2cal_core.buckets import Bucket, BucketPolicy
from b2cal_core.deputies import Deciders, Deputy
from b2cal_core.errors import CatalogueError, ConfigurationError, reasons_of
from b2cal_core.failure_policies import FailurePolicy
from b2cal_core.local_calibrations import LocalSource, import_name, refuse_made, refuse_unclear
from b2cal_core.payloads import check_tag_name
from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.remedies import Remedy
from b2cal_core.reminders import Reminders
from b2cal_core.settings import Catalogue
from b2cal_core.verdicts import SignOffRule, Threshold

_Part = TypeVar("_Part")
_BUCKET_KEY = r"e\d{4,}r\d{5,}-e\d{4,}r\d{5,}"
_TAKEN_NAMES = frozenset({"runs", "local"})
"""What assets that no campaign has are called by: a campaign of the name would take every other one down."""
ON_THE_SIDE = -10
"""The priority of a campaign that is not prompt, unless it says another: below what prompt collects ahead, too."""


class CampaignKind(StrEnum):
    """What a campaign is for."""

    prompt = "prompt"
    recalibration = "recalibration"
    run_dependent_mc = "run_dependent_mc"


class Gate(StrEnum):
    """What must be true of a calibration before what waits for it goes on."""

    verdict = "verdict"
    sign_off = "sign_off"


class RedoPolicy(StrEnum):
    """Whether something is made again without a person who starts it."""

    ask = "ask"
    always = "always"


class Gates(BaseModel):
    """Which gate each kind of step waits for, who opens it, and what is done when a result is rejected or changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    downstream: Gate = Gate.verdict
    cdst: Gate = Gate.sign_off
    publish: Gate = Gate.sign_off
    auto_sign_off: SignOffRule = SignOffRule.all_pass
    experts_only: bool = Field(default=False, description="only experts, their deputies and managers decide")
    deputies: tuple[Deputy, ...] = ()
    reminders: Reminders = Reminders()
    redo: RedoPolicy = Field(default=RedoPolicy.ask, description="of what was rejected with what to do otherwise")
    redo_downstream: RedoPolicy = Field(
        default=RedoPolicy.ask, description="of what was made from payloads that were made anew since"
    )
    redo_limit: int = Field(default=3, ge=0, description="redos of one calibration in one bucket by policy alone")


class Site(BaseModel):
    """Where the work is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    caf: Literal["embedded", "basf2"] = Field(default="embedded", description="whose CAF runs the scripts")
    batch: Literal["local", "htcondor", "slurm"] = Field(default="local", description="where jobs run")
    max_processes: int | None = Field(default=None, ge=1, description="jobs at a time; none: one per core")
    storage: str | None = Field(
        default=None, pattern=r"^/[^?]*$", description="absolute directory of work and collected output; none: the home"
    )


class Campaign(BaseModel):
    """The manager's file; refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    kind: CampaignKind = CampaignKind.prompt
    description: str = ""
    catalogue: str = Field(description="the release whose scripts are used")
    calibrations: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names asked for; left out: the whole catalogue"
    )
    first_run: tuple[int, int] | None = Field(
        default=None, description="experiment and run; earlier runs are passed over"
    )
    last_run: tuple[int, int] | None = Field(default=None, description="experiment and run; later runs are passed over")
    base_tags: tuple[str, ...] = Field(min_length=1, description="the last one has the highest priority")
    staging_tag: str = Field(default="staging_{campaign}_{bucket}", description="one tag per bucket")
    target_tag: str
    update_mode: UpdateMode = UpdateMode.allow_closed
    buckets: BucketPolicy = BucketPolicy()
    collect_ahead: bool = Field(default=True, description="collect runs as they arrive, before their bucket is closed")
    expert_config: dict[str, dict[str, Any]] = Field(default_factory=dict, description="per calibration name")
    thresholds: dict[str, dict[str, dict[str, float]]] = Field(
        default_factory=dict,
        description="per calibration and figure of merit: low_fail, low_warn, high_warn, high_fail",
    )
    failures: FailurePolicy = Field(
        default_factory=FailurePolicy, description="what is done about sub-jobs that fail, by cause"
    )
    failures_of: dict[str, FailurePolicy] = Field(
        default_factory=dict, description="per calibration name: what is done otherwise there"
    )
    wanted_events: dict[str, int] = Field(
        default_factory=dict, description="per calibration name: events that it wants of a bucket, for forecasts"
    )
    not_enough_data: Remedy = Field(
        default=Remedy.ask, description="what is done about a calibration that has not enough data in a bucket"
    )
    not_enough_data_of: dict[str, Remedy] = Field(
        default_factory=dict, description="per calibration name: what is done otherwise there"
    )
    local_calibrations: dict[str, tuple[LocalSource, ...]] = Field(
        default_factory=dict, description="per subsystem, tags with payloads made outside that each bucket takes"
    )
    gates: Gates = Gates()
    site: Site = Site()
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="the work of the highest goes first; left out: 0, on the side -10"
    )
    pool: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_.\-]{1,100}$", description="Dagster pool in which its work takes places"
    )
    owner: str = ""
    managers: tuple[str, ...] = Field(default=(), description="who decides over any calibration, beside the owner")

    @model_validator(mode="before")
    @classmethod
    def _prompt_goes_first(cls, data: Any) -> Any:  # noqa: ANN401 (whatever somebody takes for a campaign)
        if not isinstance(data, Mapping) or "priority" in data:
            return data
        is_on_the_side = data.get("kind") in (CampaignKind.recalibration, CampaignKind.run_dependent_mc)
        return {**data, "priority": ON_THE_SIDE if is_on_the_side else 0}

    @field_validator("name")
    @classmethod
    def _name_is_free(cls, value: str) -> str:
        if value in _TAKEN_NAMES:
            raise ValueError(f"the platform's own assets are called {value}; choose another name")
        return value

    @field_validator("base_tags")
    @classmethod
    def _tags_are_named_well(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        doubled = sorted(name for name, count in Counter(value).items() if count > 1)
        if doubled:
            raise ValueError(f"a tag is searched once, but {', '.join(doubled)} is listed more than once")
        return tuple(check_tag_name(name) for name in value)

    @field_validator("target_tag")
    @classmethod
    def _target_is_named_well(cls, value: str) -> str:
        return check_tag_name(value)

    @field_validator("staging_tag")
    @classmethod
    def _staging_differs_by_bucket(cls, value: str) -> str:
        names = [name for _, name, _, _ in Formatter().parse(value) if name is not None]
        if "bucket" not in names:
            raise ValueError(f"must contain {{bucket}}, since every bucket has its own; got {value!r}")
        if not set(names) <= {"campaign", "bucket"}:
            raise ValueError(f"may name {{campaign}} and {{bucket}} only; got {value!r}")
        check_tag_name(value.format(campaign="c", bucket="b"))
        return value

    @field_validator("thresholds")
    @classmethod
    def _thresholds_are_in_order(
        cls, value: dict[str, dict[str, dict[str, float]]]
    ) -> dict[str, dict[str, dict[str, float]]]:
        for figures in value.values():
            for bounds in figures.values():
                Threshold.from_json(bounds)
        return value

    @field_validator("local_calibrations", mode="before")
    @classmethod
    def _one_source_needs_no_list(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {name: [found] if isinstance(found, Mapping) else found for name, found in value.items()}

    @model_validator(mode="after")
    def _local_calibrations_come_from_outside(self) -> Self:
        refuse_unclear(self.local_calibrations)
        tags = (source.tag for sources in self.local_calibrations.values() for source in sources)
        written = sorted(filter(self.writes, tags))
        if written:
            raise ValueError(f"local_calibrations: {written[0]} is a tag that this campaign writes itself")
        if self.local_calibrations and self.update_mode is UpdateMode.strict:
            raise ValueError("update_mode strict refuses payloads that end, as local calibrations do with the bucket")
        return self

    @model_validator(mode="after")
    def _remedies_do_something(self) -> Self:
        if Remedy.alone in {self.not_enough_data, *self.not_enough_data_of.values()}:
            raise ValueError("not_enough_data must be ask, merge, extend or reuse; alone is what a person may choose")
        return self

    @model_validator(mode="after")
    def _range_of_runs(self) -> Self:
        first, last = (ExpRun(*pair) if pair else None for pair in (self.first_run, self.last_run))
        if first and last and last < first:
            raise ValueError(f"last_run ({last}) lies before first_run ({first})")
        return self

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str = "campaign") -> Self:
        """The campaign in a mapping read from ``source``; ``ConfigurationError`` says which key is wrong and why."""
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            msg = f"{source} is not a valid campaign: {reasons_of(error)}"
            raise ConfigurationError(msg) from error

    def staging_tag_of(self, bucket: Bucket) -> str:
        """The staging tag of a bucket."""
        return self.staging_tag.format(campaign=self.name, bucket=bucket.key)

    @property
    def imported(self) -> dict[str, tuple[str, ...]]:
        """Import, as ``import_name`` calls it, to the payloads that it brings into a bucket."""
        return {
            import_name(subsystem): tuple(name for source in sources for name in source.payloads)
            for subsystem, sources in self.local_calibrations.items()
        }

    def writes(self, tag: str) -> bool:
        """Whether it is the target tag, or the staging tag of a bucket or one of those made of it."""
        around = self.staging_tag.format(campaign=self.name, bucket="/").split("/")  # no tag's name has that
        staging = _BUCKET_KEY.join(map(re.escape, around))
        return tag == self.target_tag or re.fullmatch(f"{staging}(_in_[0-9a-f]+)?", tag) is not None

    def calibrations_of(self, catalogue: Catalogue) -> tuple[str, ...]:
        """The calibrations of this campaign, dependencies first; what else they need comes from the base tags."""
        if self.calibrations is None:
            return catalogue.order()
        wanted = {catalogue.find(word) for word in self.calibrations}
        return tuple(name for name in catalogue.order() if name in wanted)

    def fitted_to(self, catalogue: Catalogue) -> Self:
        """The campaign with all that is set per calibration under the calibrations' own names.

        Raises:
            ConfigurationError: it asks for or configures a calibration that it cannot have, or sets a key that the
                calibration's script does not read.
        """
        chosen = self.calibrations_of(catalogue)
        self._refuse_idle_deputies(catalogue)
        refuse_made(self.local_calibrations, {name: catalogue[name].produced_payloads for name in chosen})
        config = _renamed(self.expert_config, "expert_config", chosen, catalogue)
        thresholds = _renamed(self.thresholds, "thresholds", chosen, catalogue)
        failures = _renamed(self.failures_of, "failures_of", chosen, catalogue)
        remedies = _renamed(self.not_enough_data_of, "not_enough_data_of", chosen, catalogue)
        wanted = _renamed(self.wanted_events, "wanted_events", chosen, catalogue)
        for name, values in config.items():
            known = catalogue[name].expert_config
            unknown = sorted(set(values) - set(known))
            if unknown:
                raise ConfigurationError(
                    f"expert_config of {name!r} has no key {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
                )
        named = {"expert_config": config, "thresholds": thresholds, "failures_of": failures}
        return self.model_copy(update={**named, "not_enough_data_of": remedies, "wanted_events": wanted})

    def _refuse_idle_deputies(self, catalogue: Catalogue) -> None:
        experts = {catalogue[name].expert_username.casefold() for name in catalogue.order()}
        idle = sorted(d.expert for d in self.gates.deputies if d.expert.casefold() not in experts)
        if idle:
            known = ", ".join(sorted(filter(None, experts))) or "nobody"
            raise ConfigurationError(f"gates.deputies: {idle[0]!r} is no expert of the catalogue; it names {known}")

    def shortage(self, calibration: str) -> Remedy:
        """What is done when a calibration has not enough data in a bucket."""
        return self.not_enough_data_of.get(calibration, self.not_enough_data)

    def failure_policy(self, calibration: str) -> FailurePolicy:
        """What is done about sub-jobs of a calibration that fail."""
        own = self.failures_of.get(calibration)
        return self.failures if own is None else self.failures.overridden(own)

    def deciders(self, expert: str) -> Deciders:
        """Who may decide over a calibration of this expert."""
        managers = tuple(dict.fromkeys(filter(None, (self.owner, *self.managers))))
        return Deciders(expert, managers, self.gates.deputies)

    @property
    def iov(self) -> IoV:
        """The campaign's range of runs as an IoV."""
        return IoV(*(self.first_run or (0, 0)), *(self.last_run or (-1, -1)))

    def ends_in(self, bucket: Bucket) -> bool:
        """Whether no bucket follows, since the runs of the campaign end in this one or, of whole experiments, in its.

        Runs that come late may make one all the same.
        """
        if self.last_run is None:
            return False
        if self.buckets.whole_experiments:
            return self.last_run[0] <= bucket.last.exp
        return self.iov.after(bucket.last) is None

    def takes(self, run: ExpRun) -> bool:
        """Whether the run lies in the campaign's range, ends included."""
        after = self.first_run is None or tuple(run) >= self.first_run
        return after and (self.last_run is None or tuple(run) <= self.last_run)


def _renamed(parts: Mapping[str, _Part], key: str, chosen: Sequence[str], catalogue: Catalogue) -> dict[str, _Part]:
    renamed: dict[str, _Part] = {}
    for word, part in parts.items():
        try:
            name = catalogue.find(word)
        except CatalogueError as error:
            raise ConfigurationError(f"{key}: {error}") from error
        if name not in chosen:
            raise ConfigurationError(f"{key}: {word!r} is no calibration of this campaign; it has {', '.join(chosen)}")
        if name in renamed:
            raise ConfigurationError(f"{key} has {name!r} twice, under two of its names; keep one")
        renamed[name] = part
    return renamed
