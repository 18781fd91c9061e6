"""A campaign: one named pass over the data, written as one YAML file.

The file holds what a manager decides; everything else (settings of scripts, buckets, results) is found elsewhere.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from b2cal_core.buckets import Bucket, BucketPolicy
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import check_tag_name
from b2cal_core.publishing import UpdateMode
from b2cal_core.ranges import ExpRun
from b2cal_core.settings import Catalogue
from b2cal_core.verdicts import SignOffRule


class CampaignKind(StrEnum):
    """What a campaign is for."""

    prompt = "prompt"
    recalibration = "recalibration"
    run_dependent_mc = "run_dependent_mc"


class Gate(StrEnum):
    """What must be true of a calibration before what waits for it goes on."""

    verdict = "verdict"
    sign_off = "sign_off"


class Gates(BaseModel):
    """Which gate each kind of step waits for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    downstream: Gate = Gate.verdict
    cdst: Gate = Gate.sign_off
    publish: Gate = Gate.sign_off
    auto_sign_off: SignOffRule = SignOffRule.all_pass


class Site(BaseModel):
    """Where the work is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    caf: str = Field(default="embedded", description="embedded or basf2")
    batch: str = Field(default="local", description="local, htcondor or slurm")
    max_processes: int | None = Field(default=None, ge=1, description="jobs at a time; none: one per core")


class Campaign(BaseModel):
    """The manager's file; refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    kind: CampaignKind = CampaignKind.prompt
    description: str = ""
    catalogue: str = Field(description="the release whose scripts are used")
    calibrations: tuple[str, ...] | None = Field(default=None, description="names asked for; none: the whole catalogue")
    first_run: tuple[int, int] | None = Field(
        default=None, description="experiment and run; earlier runs are passed over"
    )
    last_run: tuple[int, int] | None = Field(default=None, description="experiment and run; later runs are passed over")
    base_tags: tuple[str, ...] = Field(min_length=1, description="the last one has the highest priority")
    staging_tag: str = Field(default="staging_{campaign}_{bucket}", description="one tag per bucket")
    target_tag: str
    update_mode: UpdateMode = UpdateMode.allow_closed
    buckets: BucketPolicy = BucketPolicy()
    expert_config: dict[str, dict[str, Any]] = Field(default_factory=dict, description="per calibration name")
    thresholds: dict[str, dict[str, dict[str, float]]] = Field(
        default_factory=dict,
        description="per calibration and figure of merit: low_fail, low_warn, high_warn, high_fail",
    )
    gates: Gates = Gates()
    site: Site = Site()
    priority: int = 0
    owner: str = ""

    @field_validator("base_tags")
    @classmethod
    def _tags_are_named_well(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_tag_name(name) for name in value)

    @model_validator(mode="after")
    def _staging_differs_by_bucket(self) -> Self:
        if "{bucket}" not in self.staging_tag:
            msg = f"staging_tag must contain {{bucket}}, since every bucket has its own; got {self.staging_tag!r}"
            raise ValueError(msg)
        check_tag_name(self.target_tag)
        check_tag_name(self.staging_tag_of(Bucket(ExpRun(0, 1), ExpRun(0, 2))))
        return self

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str = "campaign") -> Self:
        """The campaign in a mapping read from ``source``; ``ConfigurationError`` says which key is wrong and why."""
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
            msg = f"{source} is not a valid campaign: {reasons}"
            raise ConfigurationError(msg) from error

    def staging_tag_of(self, bucket: Bucket) -> str:
        """The staging tag of a bucket."""
        return self.staging_tag.format(campaign=self.name, bucket=bucket.key)

    def calibrations_of(self, catalogue: Catalogue) -> tuple[str, ...]:
        """The calibrations of this campaign, dependencies first; what else they need comes from the base tags."""
        if self.calibrations is None:
            return catalogue.order()
        wanted = {catalogue.find(word) for word in self.calibrations}
        return tuple(name for name in catalogue.order() if name in wanted)

    def takes(self, run: ExpRun) -> bool:
        """Whether the run lies in the campaign's range, ends included."""
        after = self.first_run is None or tuple(run) >= self.first_run
        return after and (self.last_run is None or tuple(run) <= self.last_run)
