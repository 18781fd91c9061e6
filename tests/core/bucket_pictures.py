"""Situations of a bucket with two calibrations, for the tests of notices and tickets."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from b2cal_core.buckets import Bucket
from b2cal_core.deputies import Deciders
from b2cal_core.gates import CalibrationStanding
from b2cal_core.ranges import ExpRun
from b2cal_core.reminders import OpenSignOff
from b2cal_core.situations import BucketSituation, CalibrationSituation, Failure, Findings, Plot
from b2cal_core.verdicts import Decision, SignOff, Verdict

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
JUDGED = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUCKET = Bucket(ExpRun(12, 1), ExpRun(12, 20), "bucket40")
PLACE = f"prompt {BUCKET.key}"
WAITING = CalibrationSituation(CalibrationStanding("CDC Tracking", has_payloads=False), Deciders("ada", ("mia",)))
FINDINGS = Findings(
    content="c" * 64,
    judged_at=JUDGED,
    figures=({"figure": "pull|mean", "value": 3.25, "verdict": "warn"},),
    iovs=({"payload": "CDCTimeZeros", "revision": 3},),
    iov_count=1,
    plots=(Plot("before_after", Path("/plots/before_after.png")),),
)
ASKING = replace(
    WAITING,
    standing=CalibrationStanding("CDC Tracking", has_payloads=True, verdict=Verdict.warn),
    open_sign_off=OpenSignOff(
        "prompt", BUCKET.key, "CDC Tracking", "c" * 64, JUDGED, verdict="warn", deciders=Deciders("ada", ("mia",))
    ),
    findings=FINDINGS,
    page="http://127.0.0.1:3000/assets/prompt/cdc_tracking/validation",
)
FAILURE = Failure("prompt__cdc_tracking__calibrate", "algorithm @all has *not* enough data", NOW)


def signed(one: CalibrationSituation, decision: Decision, *, author: str = "ada") -> CalibrationSituation:
    """The calibration, decided over."""
    until = NOW if decision is Decision.waived else None
    log = SignOff(
        "prompt", BUCKET.key, one.name, decision, author, "a /close reason", one.findings.content, JUDGED, until=until
    )
    return replace(one, open_sign_off=None, standing=replace(one.standing, has_payloads=True, sign_off=log))


ACCEPTED, REJECTED = signed(ASKING, Decision.accepted), signed(ASKING, Decision.rejected)
WAIVED = signed(ASKING, Decision.waived)
FAILED = replace(WAITING, failure=FAILURE)
QUESTION = f"CDC Tracking has *not* enough data; choose what is done: b2cal bucket data {PLACE} cdc_tracking reuse"
LACKING = replace(
    WAITING,
    open_question=OpenSignOff(
        "prompt", BUCKET.key, "CDC Tracking", "20260301T120000", JUDGED, "", Deciders("ada", ("mia",)), QUESTION
    ),
)


def other(one: CalibrationSituation, name: str = "SVD time", expert: str = "ben") -> CalibrationSituation:
    """The same of another calibration."""
    return replace(one, standing=replace(one.standing, name=name), deciders=Deciders(expert, ("mia",)))


def bucket(*calibrations: CalibrationSituation, **changes: Any) -> BucketSituation:
    """The bucket with these calibrations."""
    return BucketSituation("prompt", BUCKET, "mia", calibrations, target_tag="prompt_running", **changes)
