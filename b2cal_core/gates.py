"""Gates: whether what waits for calibrations may go on, and if not, who must do what.

A gate never hides a result; it answers with reasons for people, one sentence each. No reason means it is open.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Gate
from b2cal_core.settings import asset_name
from b2cal_core.verdicts import Decision, SignOff, Verdict


@dataclass(frozen=True, slots=True)
class CalibrationStanding:
    """How far a calibration is in one bucket.

    Attributes:
        has_payloads: its payloads are in the staging tag.
        verdict: of its validation over these payloads; ``None`` while there is none.
        sign_off: the decision that stands over these payloads; ``None`` while there is none.
        is_remade_alike: they were rejected, and what was redone gave the same.
    """

    name: str
    has_payloads: bool
    verdict: Verdict | None = None
    sign_off: SignOff | None = None
    is_remade_alike: bool = False


def check_gate(gate: Gate, needed: Iterable[CalibrationStanding], *, campaign: str, bucket: Bucket) -> tuple[str, ...]:
    """The reasons why the gate is shut; none when it is open.

    A rejection shuts every gate, and so does the verdict *fail* unless a person accepted these very payloads in spite
    of it. Under ``verdict`` payloads are enough otherwise; under ``sign_off`` each calibration must be accepted too.
    """
    reasons = (_reason(gate, standing, f"{campaign} {bucket.key}") for standing in needed)
    return tuple(reason for reason in reasons if reason)


def _reason(gate: Gate, standing: CalibrationStanding, place: str) -> str:
    name, short = standing.name, asset_name(standing.name)
    signed = standing.sign_off
    if not standing.has_payloads:
        return f"{name} has no payloads yet in {place}; it must be calibrated first"
    if signed is not None and signed.decision is Decision.rejected:
        why = f"{name} was rejected by {signed.author} ({signed.reason})"
        return f"{why}{_after_rejection(standing, place, short)}"
    if standing.verdict is Verdict.fail and (signed is None or signed.by_rule):
        then = sign_off_command(place, short)
        return f"the validation of {name} failed in {place}; its expert looks at it, then: {then}"
    if gate is Gate.sign_off and signed is None:
        return f"{name} waits for the sign-off of its expert: {sign_off_command(place, short)}"
    return ""


def _after_rejection(standing: CalibrationStanding, place: str, short: str) -> str:
    """How the sentence goes on: what was redone in vain would give the same once more, so that a person decides."""
    if not standing.is_remade_alike:
        return f"; redo it: b2cal bucket run {place} --only {short}"
    then = "accept it, or reject it with --redo-with, --exclude-run or --boundaries"
    return f", and the redo gave the same; {then}: {sign_off_command(place, short)}"


def sign_off_command(place: str, short: str) -> str:
    """What an expert types to decide; ``place`` is campaign and bucket, ``short`` the calibration's asset name."""
    return f'b2cal signoff accept|reject {place} {short} --reason "…"'


def check_order(
    bucket: Bucket, buckets: Iterable[Bucket], published: Iterable[str], *, campaign: str
) -> tuple[str, ...]:
    """The reasons why a bucket may not be published before others: earlier buckets come first, since a tag only grows.

    Args:
        bucket: the one to be published.
        buckets: all buckets of the campaign.
        published: keys of those that are published.
        campaign: whose buckets they are.
    """
    done, publish = set(published), f"publish it first: b2cal bucket run {campaign}"
    return tuple(
        f"bucket {other.key} is earlier and not published yet; {publish} {other.key}"
        for other in sorted(buckets)
        if other.last < bucket.first and other.key not in done
    )
