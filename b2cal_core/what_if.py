"""What-if: a finished bucket is branched with other settings, worked aside, and compared with what there was.

A branch is a campaign of its own over the one bucket. It starts from the same base tags, writes tags of its own, and is
never published.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isfinite, isnan
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Campaign
from b2cal_core.errors import ConfigurationError, reasons_of
from b2cal_core.local_calibrations import LocalSource
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.redo import Redo
from b2cal_core.settings import Catalogue

ERROR = "_err"
"""How the name of a column ends that holds the stated errors of another one."""


class WhatIf(BaseModel):
    """What is done otherwise in a branch, and of which bucket it is one.

    Attributes:
        bucket: the bucket's key.
        name: of the branch, beside the campaign's.
        expert_config: calibration name to the keys that are different.
        release: whose scripts are used; ``None`` for those of the campaign.
        excluded_runs: runs whose data are left out.
        only: calibrations that are made, with all that they build upon; none for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign: str
    bucket: str
    name: str = Field(pattern=r"^[a-z0-9_]{1,30}$")
    expert_config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    release: str | None = None
    excluded_runs: tuple[tuple[int, int], ...] = ()
    only: tuple[str, ...] = ()

    @field_validator("excluded_runs")
    @classmethod
    def _sorted_runs(cls, value: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple(sorted({ExpRun(*pair).edge for pair in value}))

    @classmethod
    def checked(cls, **fields: Any) -> Self:  # noqa: ANN401 (pydantic tells what is wrong with them)
        """The branch with these fields; ``ConfigurationError`` says which one is wrong and why."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise ConfigurationError(f"this is no branch of a bucket: {reasons_of(error)}") from error

    @property
    def branch(self) -> str:
        """The name of the branch's campaign."""
        return f"{self.campaign}_{self.name}"

    def instruction(self, calibration: str, before: Redo) -> Redo:
        """What a calibration of the branch is told, where ``before`` was in force in the bucket that is branched."""
        own = self.expert_config.get(calibration, {})
        # the branch's campaign has these keys, and what a rejection asked for would go before them
        left = {key: value for key, value in before.config.items() if key not in own}
        return Redo(expert_config=left, excluded_runs=(*before.excluded_runs, *self.excluded_runs))


def branch_of(change: WhatIf, campaign: Campaign, catalogue: Catalogue) -> Campaign:
    """The campaign of a branch.

    Args:
        change: what is done otherwise.
        campaign: the one that is branched.
        catalogue: of the release that the branch uses.

    Raises:
        CatalogueError: that release has no such calibration.
        ConfigurationError: the branch's name is too long, or something is set that a script does not read, or to a
            value of another type than the script has.
    """
    chosen = _chosen(change, campaign, catalogue)
    fitted = campaign.model_copy(update={"gates": campaign.gates.model_copy(update={"deputies": ()})})
    fitted = fitted.fitted_to(catalogue)
    config = {name: fitted.expert_config.get(name, {}) | change.expert_config.get(name, {}) for name in chosen}
    ends = Bucket.from_key(change.bucket)
    imported = campaign.staging_tag_of(ends)  # what the bucket had, whatever its source tags have by now
    own = {
        "name": change.branch,
        "description": f"What if, beside campaign {campaign.name}: bucket {change.bucket}.",
        "catalogue": change.release or campaign.catalogue,
        "calibrations": chosen,
        "first_run": ends.first.edge,
        "last_run": ends.last.edge,
        "staging_tag": "what_if_{campaign}_{bucket}",
        "target_tag": f"what_if_{change.branch}",
        "buckets": {"cross_experiments": True},
        "collect_ahead": False,
        "expert_config": {name: keys for name, keys in config.items() if keys},
        "thresholds": {name: fitted.thresholds[name] for name in chosen if name in fitted.thresholds},
        "failures_of": {
            name: fitted.failures_of[name].model_dump(mode="json") for name in chosen if name in fitted.failures_of
        },
        "local_calibrations": {
            subsystem: [_taken_from(imported, source) for source in sources]
            for subsystem, sources in campaign.local_calibrations.items()
        },
        "gates": {"downstream": "verdict", "cdst": "verdict", "publish": "sign_off", "auto_sign_off": "none_fail"},
    }
    _require_known(set(change.expert_config), chosen, change.branch)
    for name, keys in change.expert_config.items():
        _require_types(name, keys, catalogue[name].expert_config)
    return Campaign.from_mapping(fitted.model_dump(mode="json") | own, f"branch {change.branch}")


def _require_types(calibration: str, keys: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Keys that the script does not have are refused elsewhere; one that is ``None`` there takes anything."""
    for key, value in keys.items():
        default = defaults.get(key)
        if default is not None and (given := _json_type(value)) != (wanted := _json_type(default)):
            raise ConfigurationError(
                f"expert_config of {calibration!r}: {key} is a {wanted} in its script, {json.dumps(default)}, and"
                f" cannot be the {given} {json.dumps(value)}; give a {wanted}"
            )


def _json_type(value: object) -> str:
    """The name of what the value is in JSON, which knows one type of numbers."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds: dict[type | tuple[type, ...], str] = {str: "string", (int, float): "number", (list, tuple): "list"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "object")


def _taken_from(tag: str, source: LocalSource) -> dict[str, Any]:
    return source.model_copy(update={"tag": tag}).model_dump(mode="json")


def _chosen(change: WhatIf, campaign: Campaign, catalogue: Catalogue) -> tuple[str, ...]:
    """The calibrations that are made: all of the campaign, or those asked for and what they build upon."""
    everything = campaign.calibrations_of(catalogue)
    if not change.only:
        return everything
    wanted = {catalogue.find(word) for word in change.only}
    _require_known(wanted, everything, campaign.name)
    needed = wanted.union(*(catalogue.dependencies(name) for name in wanted))
    if any(catalogue[name].stage == "cdst" for name in wanted):
        needed |= {name for name in everything if catalogue[name].stage == "raw"}
    return tuple(name for name in everything if name in needed)


def _require_known(wanted: set[str], known: Sequence[str], campaign: str) -> None:
    strangers = sorted(wanted - set(known))
    if strangers:
        raise ConfigurationError(
            f"campaign {campaign} does not make {', '.join(strangers)}; it makes {', '.join(known)}"
        )


@dataclass(frozen=True, slots=True)
class ConstantChange:
    """One column of a payload in the runs where both have it.

    Attributes:
        entries: of the column; ``changed``: how many of them differ.
        old, new: of the entry that differs most; ``None`` where a side has no such column, or another length.
        errors: the difference in units of the error that was stated before; ``None`` where none was.
        note: what hinders a comparison; empty when nothing does.
    """

    payload: str
    iov: IoV
    column: str
    entries: int = 0
    changed: int = 0
    old: float | None = None
    new: float | None = None
    errors: float | None = None
    note: str = ""

    @property
    def difference(self) -> float | None:
        """New minus old."""
        return None if self.old is None or self.new is None else self.new - self.old

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**asdict(self), "iov": list(self.iov), "difference": self.difference}


@dataclass(frozen=True, slots=True)
class FigureChange:
    """A figure of merit and its verdict, before and in the branch; ``None`` where a side has none of that name."""

    calibration: str
    figure: str
    old: float | None
    old_verdict: str | None
    new: float | None
    new_verdict: str | None

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)


Columns = Mapping[str, Sequence[float]]


def compare_columns(payload: str, iov: IoV, old: Columns, new: Columns) -> tuple[ConstantChange, ...]:
    """The columns of two payloads, errors left out, in the order of the old one and then of the new one."""
    names = [name for name in {**old, **new} if not _is_error(name, {**old, **new})]
    return tuple(_compare(ConstantChange(payload, iov, name), old, new) for name in names)


def _is_error(name: str, columns: Columns) -> bool:
    return name.endswith(ERROR) and name.removesuffix(ERROR) in columns


def _compare(change: ConstantChange, old: Columns, new: Columns) -> ConstantChange:
    name = change.column
    if name not in old or name not in new:
        return replace(change, note=f"only the {'branch' if name in new else 'original'} has this column")
    before, after, stated = old[name], new[name], old.get(f"{name}{ERROR}", ())
    if len(before) != len(after):
        return replace(change, note=f"{len(before)} entries before, {len(after)} in the branch")
    pairs = list(zip(before, after, [*stated, *[0.0] * (len(before) - len(stated))], strict=True))
    if not pairs:
        return replace(change, note="it has no entries")
    was, now, error = max(pairs, key=_weight)
    return replace(
        change,
        entries=len(pairs),
        changed=sum(not _same(was, now) for was, now, _ in pairs),
        old=was,
        new=now,
        errors=(now - was) / error if error > 0 and isfinite(now - was) else None,
    )


def _weight(entry: tuple[float, float, float]) -> tuple[float, float]:
    """How far apart the two are, in units of the error where there is one; what is no number is farthest away."""
    was, now, error = entry
    if _same(was, now):
        return 0.0, 0.0
    distance = abs(now - was)
    far = distance if isfinite(distance) else inf
    return (far / error if error > 0 else far), far


def _same(one: float, other: float) -> bool:
    return one == other or (isnan(one) and isnan(other))
