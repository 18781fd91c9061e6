"""Waivers: decisions that let a verdict *fail* through the gates until a moment, over one very result.

A waiver is no acceptance: when it has ended, what has not gone on stays where it is.
"""

from collections.abc import Iterable
from datetime import datetime

from b2cal_core.verdicts import Decision, SignOff


def waiver_over(decisions: Iterable[SignOff], evidence: str, *, failed: Iterable[str], now: datetime) -> SignOff | None:
    """The waiver that lets a failed result through now, if any; of several figures' waivers the one that ends first.

    Args:
        decisions: over the result, in the order they were logged; only waivers among them are looked at.
        evidence: the result's content; a waiver over other content does not count.
        failed: names of the figures that fail; when none is known, only a waiver of the whole verdict counts.
        now: a waiver counts until before its end.
    """
    waivers = [d for d in decisions if d.decision is Decision.waived and d.evidence == evidence]
    active = [waiver for waiver in waivers if not waiver.has_ended(now)]
    whole = [waiver for waiver in active if not waiver.figure]
    if whole:
        return max(whole, key=_end)
    last = {figure: [waiver for waiver in active if waiver.figure == figure] for figure in failed}
    if not last or not all(last.values()):
        return None
    return min((max(waivers, key=_end) for waivers in last.values()), key=_end)


def _end(waiver: SignOff) -> datetime:
    return waiver.until or waiver.when
