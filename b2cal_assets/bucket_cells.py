"""Why each asset of a bucket is not made: from what is recorded, its gates, and the Dagster runs at work on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, published_key, step_name
from b2cal_assets.asset_specs import inputs_of
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_records import PLAN_HASH
from b2cal_core.buckets import Bucket
from b2cal_core.cells import Cell, CellFacts, command_in, judge_cells
from b2cal_core.gates import sign_off_command

_OWN_CAMPAIGN = "b2cal campaign create FILE"
_QUEUED = "its Dagster run waits in Dagster's queue for a place, and the service begins it then: b2cal up"


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
        is_queued: one of them waits for its turn.
        held: why none is started for what can start, in sentences that end with a command.
    """

    running: frozenset[str] = frozenset()
    failed: Mapping[str, StepFailure] = field(default_factory=dict)
    is_queued: bool = False
    held: tuple[str, ...] = ()

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
    outdated, redo = ledger.outdated(key) if ledger.has(key) else (), _redo(ledger, key)
    if ledger.has(published_key(ledger.plan.name)):
        outdated, redo = _after_publishing(ledger, key, buckets, outdated=outdated, redo=redo)
    return CellFacts(
        key.to_user_string(),
        needs=tuple(needed.to_user_string() for needed in _needs(ledger, key)),
        is_there=ledger.has(key),
        is_lacking=is_lacking,
        is_running=step_name(key) in activity.running,
        outdated=outdated,
        shut=ledger.reasons_against(key, buckets) if is_lacking else ledger.rejection(key),
        queued=_QUEUED if activity.is_queued else "",
        held=activity.held,
        failure=activity.failure(ledger, key) if is_lacking else "",
        redo=redo,
        start=start,
    )


def _redo(ledger: BucketLedger, key: dg.AssetKey) -> str:
    """The command for what was made and is outdated."""
    place, short = f"{ledger.plan.name} {ledger.bucket.key}", key.path[1]
    is_collected = key.path[-1] in {Part.collector_output, Part.payloads}
    if is_collected and ledger.is_remade_alike(ledger.plan.calibration_of(key)):
        return sign_off_command(place, short)
    return f"b2cal bucket run {place} --only {short}"


def _after_publishing(
    ledger: BucketLedger, key: dg.AssetKey, buckets: Sequence[Bucket], *, outdated: tuple[str, ...], redo: str
) -> tuple[tuple[str, ...], str]:
    """Why an asset of a published bucket is outdated, and the command for that: readers keep what was published."""
    published, plan = published_key(ledger.plan.name), ledger.plan
    if key != published:
        why = f"the bucket is published, and {plan.campaign.target_tag} keeps what it has"
        kept = f"{why}: b2cal bucket why {plan.name} {ledger.bucket.key} published"
        return (*outdated, *([kept] if outdated else [])), redo
    payloads = [calibration_key(plan.name, name, Part.payloads) for name in plan.calibrations]
    own = tuple(dict.fromkeys(reason for made in (*payloads, published) for reason in ledger.outdated(made)))
    if not own:
        return (), redo
    then, command = _other_constants(ledger, buckets)
    return (*own, then), command


def _other_constants(ledger: BucketLedger, buckets: Sequence[Bucket]) -> tuple[str, str]:
    """How readers get other constants for the runs of a published bucket, in a sentence and by which command."""
    published, target = published_key(ledger.plan.name), ledger.plan.campaign.target_tag
    own_campaign = f"bring them into another target tag, by a campaign of its own for these runs: {_OWN_CAMPAIGN}"
    if any(ledger.of(other).has(published) for other in buckets if ledger.bucket.last < other.first):
        return (
            f"later buckets are published in {target}, which is never changed backwards; {own_campaign}",
            _OWN_CAMPAIGN,
        )
    made = ledger.metadata(published) or {}
    plan = str(made[PLAN_HASH].value)[:12] if PLAN_HASH in made else "PLAN"
    start = f"b2cal bucket run {ledger.plan.name} {ledger.bucket.key} --only published"
    back = f'b2cal cdb rollback {plan} --reason "…" --approver NAME && {start}'
    then = f"when they are redone, take the publish back, as long as it is not final, and publish again: {back}"
    return f"{then}; otherwise {own_campaign}", command_in(ledger.reasons_against_publishing(buckets)) or back


def _needs(ledger: BucketLedger, key: dg.AssetKey) -> tuple[dg.AssetKey, ...]:
    """What is made before; a rule signs off what was validated, in the same step."""
    inputs = inputs_of(ledger.plan, key)
    if key.path[-1] != Part.sign_off:
        return inputs
    calibration = ledger.plan.calibration_of(key)
    return (*inputs, calibration_key(ledger.plan.name, calibration, Part.validation))
