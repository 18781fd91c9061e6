"""Deciding over a result: the decision is checked, logged, and shown in Dagster. Importing this is slow."""

from datetime import UTC, datetime

from b2cal_assets.asset_keys import published_key
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.sign_offs import report_sign_off
from b2cal_cli.decision_terms import Said, person
from b2cal_cli.ledgers import ledger_of
from b2cal_cli.session import WrongUsage, arguments
from b2cal_core.buckets import Bucket
from b2cal_core.verdicts import Decision, SignOff, Verdict
from resources.deployment import registry_address
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog


def decide(home: Home, subject: tuple[str, Bucket, str], decision: Decision, said: Said) -> tuple[SignOff, bool]:
    """Decide over the payloads that a calibration made last; also whether the bucket is published already.

    Args:
        home: where all state is.
        subject: campaign, bucket and calibration.
        decision: what is decided.
        said: the rest of it.

    Raises:
        WrongUsage: there is nothing to decide over, or nothing that a waiver would let through.
        RightsError: the author may not decide.
    """
    campaign, bucket, name = subject
    with arguments(), ledger_of(home, campaign, bucket) as opened:
        signed = _signed(opened.ledger, name, decision, said)
        EmbeddedSignOffLog(registry_address(home)).record(signed)
        report_sign_off(opened.instance, signed)
        return signed, opened.ledger.has(published_key(campaign))


def _signed(ledger: BucketLedger, name: str, decision: Decision, said: Said) -> SignOff:
    """The decision over the payloads made last; ``RightsError`` when its author may not decide."""
    campaign, key, payloads = ledger.plan.campaign, ledger.bucket.key, ledger.payloads(name)
    if payloads is None:
        then = f"make them: b2cal bucket run {campaign.name} {key}"
        raise WrongUsage(f"{name} has no payloads in {key} to decide over; {then}")
    if decision is Decision.waived:
        _refuse_idle_waiver(ledger, name, said.figure)
    who, now = person(said.author), datetime.now(UTC)
    deciders = campaign.deciders(ledger.plan.settings(name).expert_username)
    return SignOff(
        *(campaign.name, key, name, decision, who, said.reason, payloads.content, now),
        deputy_of=deciders.decides_for(who, now.date(), experts_only=campaign.gates.experts_only),
        until=said.until,
        figure=said.figure,
        redo=said.redo,
    )


def _refuse_idle_waiver(ledger: BucketLedger, name: str, figure: str) -> None:
    """Raise ``WrongUsage`` when there is nothing that the waiver would let through."""
    verdict, failed = ledger.verdict(name), ledger.failed_figures(name)
    if verdict is not Verdict.fail:
        seen = "no verdict" if verdict is None else f"the verdict {verdict.value}"
        raise WrongUsage(f"{name} has {seen}; only a verdict fail is waived, others are accepted or rejected")
    if figure and figure not in failed:
        raise WrongUsage(f"{figure!r} is no figure of {name} that fails; these do: {', '.join(failed) or 'not known'}")
