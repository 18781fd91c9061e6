"""Why each asset of a bucket is not made: from what is recorded, its gates, and the Dagster runs at work on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, step_name
from b2cal_assets.asset_specs import inputs_of
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_core.buckets import Bucket
from b2cal_core.cells import Cell, CellFacts, judge_cells


@dataclass(frozen=True, slots=True)
class StepFailure:
    """How a step failed, and when, in seconds since 1970."""

    sentence: str
    when: float


@dataclass(frozen=True, slots=True)
class Activity:
    """What Dagster runs did and do about a bucket.

    Attributes:
        running: steps that have begun and not ended.
        failed: step to its last failure.
    """

    running: frozenset[str] = frozenset()
    failed: Mapping[str, StepFailure] = field(default_factory=dict)

    def failure(self, ledger: BucketLedger, key: dg.AssetKey) -> str:
        """How the step of an asset failed since it was made, or told to be made otherwise; empty when it did not."""
        failure = self.failed.get(step_name(key))
        if failure is None or failure.when <= max(ledger.made_at(key), ledger.told_at(key)):
            return ""
        return failure.sentence


def cells_of(ledger: BucketLedger, buckets: Sequence[Bucket], activity: Activity) -> tuple[Cell, ...]:
    """One cell per asset of the bucket, named as in Dagster, in the order of the work; ``buckets`` are all of them."""
    return judge_cells(_facts(ledger, key, buckets, activity) for key in ledger.plan.asset_keys())


def _facts(ledger: BucketLedger, key: dg.AssetKey, buckets: Sequence[Bucket], activity: Activity) -> CellFacts:
    is_lacking = not ledger.is_made(key)
    start = f"b2cal bucket run {ledger.plan.name} {ledger.bucket.key}"
    return CellFacts(
        key.to_user_string(),
        needs=tuple(needed.to_user_string() for needed in _needs(ledger, key)),
        is_there=ledger.has(key),
        is_lacking=is_lacking,
        is_running=step_name(key) in activity.running,
        outdated=ledger.outdated(key) if ledger.has(key) else (),
        shut=ledger.reasons_against(key, buckets) if is_lacking else (),
        failure=activity.failure(ledger, key) if is_lacking else "",
        redo=f"{start} --only {key.path[1]}",
        start=start,
    )


def _needs(ledger: BucketLedger, key: dg.AssetKey) -> tuple[dg.AssetKey, ...]:
    """What is made before; a rule signs off what was validated, in the same step."""
    inputs = inputs_of(ledger.plan, key)
    if key.path[-1] != Part.sign_off:
        return inputs
    calibration = ledger.plan.calibration_of(key)
    return (*inputs, calibration_key(ledger.plan.name, calibration, Part.validation))
