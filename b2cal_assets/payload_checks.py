"""Checks on the payloads of one calibration and bucket. Every verdict is computed from the payloads themselves."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import dagster as dg
from dagster_shared.utils.warnings import PreviewWarning

from b2cal_assets.asset_metadata import Row, round_for_people, table, threshold_text
from b2cal_assets.drifts import drifts
from b2cal_core.buckets import Bucket
from b2cal_core.payloads import LocalPayload
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV, IoVSet
from b2cal_core.verdicts import Threshold, Verdict

DECLARED, COVERED, DISJOINT, DRIFT = "declared_payloads", "bucket_covered", "no_overlap", "drift"
FIGURES = "figures_of_merit"
Ranged = LocalPayload | TagIov
"""A payload of that name for these runs, wherever it is."""
PAYLOAD_CHECKS: Mapping[str, str] = {
    DECLARED: "Every payload that the script declares was produced, and nothing else.",
    COVERED: "Every run of the bucket has each payload.",
    DISJOINT: "No run has two answers.",
    DRIFT: "The constants changed by no more than usual against the bucket before, in units of their errors.",
}
DRIFT_THRESHOLD = Threshold(high_warn=10.0)
"""Of the median change; real detectors move, so a large one only warns unless the campaign says otherwise."""


def check_specs(
    key: dg.AssetKey, buckets: dg.PartitionsDefinition, checks: Mapping[str, str] = PAYLOAD_CHECKS
) -> list[dg.AssetCheckSpec]:
    """The checks on the payloads of one calibration or import, judged for each bucket by itself."""
    return [check_spec(name, key, buckets, description=text) for name, text in checks.items()]


def check_spec(name: str, key: dg.AssetKey, buckets: dg.PartitionsDefinition, *, description: str) -> dg.AssetCheckSpec:
    """A check that is judged for each bucket by itself."""
    with warnings.catch_warnings():
        # Dagster calls this preview; without it a check would only tell of the bucket that was worked last.
        warnings.simplefilter("ignore", PreviewWarning)
        return dg.AssetCheckSpec(name, asset=key, description=description, partitions_def=buckets)


def check_declared(key: dg.AssetKey, payloads: Sequence[Ranged], declared: Sequence[str]) -> dg.AssetCheckResult:
    """Whether what was produced is what was declared; a script that declares nothing is not judged."""
    made = {payload.name for payload in payloads}
    missing, extra = sorted(set(declared) - made), sorted(made - set(declared)) if declared else []
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=DECLARED,
        passed=not missing and not extra,
        severity=dg.AssetCheckSeverity.ERROR if missing else dg.AssetCheckSeverity.WARN,
        metadata={
            "produced": ", ".join(sorted(made)) or "none",
            "missing": ", ".join(missing) or "none",
            "not declared": ", ".join(extra) or "none",
        },
    )


def check_covered(
    key: dg.AssetKey, payloads: Sequence[Ranged], bucket: Bucket, *, runs: Sequence[ExpRun]
) -> dg.AssetCheckResult:
    """Whether each payload covers the bucket; a gap in which no run was registered is only worth a warning."""
    rows: list[Row] = []
    for name in sorted({payload.name for payload in payloads}):
        covered = IoVSet((payload.iov for payload in payloads if payload.name == name), allow_overlaps=True)
        for gap in covered.missing_from(bucket.iov):
            lost = sum(gap.contains(run) for run in runs)
            rows.append({"payload": name, "gap": str(gap), "registered runs in it": lost})
    serious = not payloads or any(row["registered runs in it"] for row in rows)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=COVERED,
        passed=not rows and bool(payloads),
        severity=dg.AssetCheckSeverity.ERROR if serious else dg.AssetCheckSeverity.WARN,
        metadata={"gaps": table(rows)},
    )


def overlaps(payloads: Sequence[Ranged]) -> tuple[tuple[str, IoV, IoV], ...]:
    """IoVs of one name that share a run with the one before them that reaches furthest."""
    found = []
    furthest: dict[str, IoV] = {}
    for payload in sorted(payloads, key=lambda payload: (payload.name, payload.iov.start, payload.iov.stop)):
        before = furthest.get(payload.name)
        if before is not None and before.overlaps(payload.iov):
            found.append((payload.name, before, payload.iov))
        if before is None or payload.iov.stop > before.stop:
            furthest[payload.name] = payload.iov
    return tuple(found)


def check_disjoint(
    key: dg.AssetKey,
    payloads: Sequence[Ranged],
    *,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """Whether no two IoVs of one payload share a run."""
    found = overlaps(payloads)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=DISJOINT,
        passed=not found,
        severity=severity,
        metadata={"overlaps": table({"payload": n, "IoV": str(a), "overlaps": str(b)} for n, a, b in found)},
    )


def check_drift(
    key: dg.AssetKey, payloads: Sequence[LocalPayload], previous: Path | None, *, threshold: Threshold
) -> dg.AssetCheckResult:
    """How far the constants moved since the payloads valid before the bucket."""
    found = drifts(payloads, previous)
    verdict = Verdict.worst(threshold.grade(drift.median) for drift in found)
    rows: Iterable[Row] = (
        {
            "payload": drift.payload,
            "column": drift.column,
            "channels": drift.channels,
            "median change / error": round_for_people(drift.median),
            "largest change / error": round_for_people(drift.largest),
        }
        for drift in found
    )
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=DRIFT,
        passed=verdict is Verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if verdict is Verdict.fail else dg.AssetCheckSeverity.WARN,
        metadata={"drifts": table(rows), "threshold of the median": threshold_text(threshold)},
    )
