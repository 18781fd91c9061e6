"""Decisions over payloads: made by a campaign's rule, or by a person and then shown in Dagster."""

import hashlib
from datetime import datetime

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key
from b2cal_assets.asset_metadata import Metadata
from b2cal_core.verdicts import Decision, SignOff, SignOffRule, Verdict

_DATA_VERSION_TAG = "dagster/data_version"


def decide_by_rule(
    rule: SignOffRule, verdict: Verdict, subject: tuple[str, str, str], *, evidence: str, when: datetime
) -> SignOff | None:
    """The acceptance that the rule gives to a result with this verdict, or ``None``.

    ``subject`` is campaign, bucket key and calibration name; ``evidence`` the hash of the payloads that are judged.
    """
    if not rule.accepts(verdict):
        return None
    reason = f"the verdict is {verdict.value}"
    return SignOff(*subject, Decision.accepted, f"rule:{rule.value}", reason, evidence, when)


def report_sign_off(instance: dg.DagsterInstance, decision: SignOff) -> None:
    """Show a decision that a person made outside Dagster as the sign-off asset of its bucket.

    The decision must be in the log already: gates ask the log, this only makes it visible.
    """
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            calibration_key(decision.campaign, decision.calibration, Part.sign_off),
            partition=decision.bucket,
            metadata=sign_off_metadata(decision),
            tags={_DATA_VERSION_TAG: sign_off_version(decision)},
        )
    )


def sign_off_metadata(decision: SignOff) -> Metadata:
    """Who decided what, when, why, and over which payloads."""
    return {
        "decision": dg.MetadataValue.text(decision.decision.value),
        "by": dg.MetadataValue.text(decision.author),
        "reason": dg.MetadataValue.text(decision.reason),
        "evidence": dg.MetadataValue.text(decision.evidence),
        "when": dg.MetadataValue.timestamp(decision.when),
        **{name: dg.MetadataValue.text(text) for name, text in decision.terms.items()},
    }


def sign_off_version(decision: SignOff) -> str:
    """The same for the same payloads and way of the gate, so that deciding it again makes nothing stale."""
    lets_through = Decision.rejected if decision.decision is Decision.rejected else Decision.accepted
    return hashlib.sha256(f"{lets_through} {decision.evidence}".encode()).hexdigest()[:32]
