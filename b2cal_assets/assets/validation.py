"""Judging: one step that validates the payloads of a calibration and signs them off, by rule or as a person decided."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, step_name
from b2cal_assets.asset_metadata import Metadata, figure_table, plots, round_for_people, seconds
from b2cal_assets.asset_specs import part_spec
from b2cal_assets.bucket_records import EVIDENCE, FAILED_FIGURES, VERDICT, PayloadRecord
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.closed_gates import wait_at_gate
from b2cal_assets.partitions import bucket_partitions
from b2cal_assets.payload_checks import DRIFT, FIGURES, check_spec
from b2cal_assets.sign_offs import decide_by_rule, sign_off_metadata, sign_off_version
from b2cal_assets.step_errors import failing_in_words
from b2cal_assets.workshop import Workshop
from b2cal_core.remedies import Remedy
from b2cal_core.verdicts import Figure, Threshold, Verdict

Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What a validation came to.

    Attributes:
        figures: judged by the campaign's thresholds where it has any.
        idle: figures that the campaign has thresholds for, and that the validation does not give.
        spent: wall seconds.
    """

    figures: tuple[Figure, ...] = ()
    idle: tuple[str, ...] = ()
    spent: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The worst of the figures, and at least a warning where a person has to look."""
        least = [Verdict.warn] if self.remark else []
        return Verdict.worst([*least, *(figure.verdict for figure in self.figures)])

    @property
    def remark(self) -> str:
        """Why a person has to look whatever the figures are; empty when nobody has to."""
        if not self.figures:
            return "no figure of merit was computed; a person has to look"
        if not self.idle:
            return ""
        given = ", ".join(figure.name for figure in self.figures)
        return (
            f"the campaign has thresholds for {', '.join(self.idle)}, which the validation does not give: it gives"
            f" {given}, judged by its own bounds where the campaign has none; mend thresholds in the campaign's file"
        )


def validation_asset(plan: CampaignPlan, calibration: str) -> dg.AssetsDefinition:
    """The step that validates one calibration and signs it off."""
    validation_key = calibration_key(plan.name, calibration, Part.validation)
    sign_off_key = calibration_key(plan.name, calibration, Part.sign_off)

    @dg.multi_asset(
        name=step_name(validation_key),
        specs=_specs(plan, calibration),
        check_specs=[
            check_spec(
                FIGURES,
                validation_key,
                bucket_partitions(plan.name),
                description="Every figure of merit lies where it should.",
            )
        ],
        partitions_def=bucket_partitions(plan.name),
        can_subset=True,
    )
    def judge(context: dg.AssetExecutionContext, workshop: dg.ResourceParam[Workshop]) -> Results:
        work = BucketWork.of(plan, context.partition_key, workshop, instance=context.instance)
        payloads = work.ledger.payloads(calibration)
        if payloads is None:
            wait_at_gate(context, [f"{calibration} has no payloads yet in {work.bucket.key}"], workshop.listener)
            return
        verdict = work.ledger.verdict(calibration)
        with failing_in_words(f"the validation of {calibration}, bucket {work.bucket.key}"):
            if validation_key in context.selected_asset_keys:
                judged = _judged(work, calibration)
                verdict = judged.verdict
                yield _validated(work, calibration, payloads, judged)
                yield _check_figures(validation_key, judged)
            if sign_off_key in context.selected_asset_keys:
                yield from _sign_off(context, work, calibration, payloads=payloads, verdict=verdict)

    return judge


def _specs(plan: CampaignPlan, calibration: str) -> list[dg.AssetSpec]:
    payloads, validation = (
        dg.AssetDep(calibration_key(plan.name, calibration, part)) for part in (Part.payloads, Part.validation)
    )
    rule = plan.campaign.gates.auto_sign_off.value
    return [
        part_spec(
            plan,
            calibration,
            Part.validation,
            deps=[payloads],
            description=f"Plots, figures of merit and the verdict over the payloads of {calibration}.",
        ),
        part_spec(
            plan,
            calibration,
            Part.sign_off,
            deps=[payloads, validation],
            description=f"Who accepted or rejected the payloads of {calibration}, a person or rule {rule}, and why.",
        ),
    ]


def _judged(work: BucketWork, calibration: str) -> _Judgement:
    script = work.plan.validation_script(calibration)
    if script is None or work.remedy(calibration) is Remedy.reuse:  # whose payloads were judged where they were made
        return _Judgement()
    started = time.monotonic()
    figures = work.workshop.validate(work.plan.campaign.site)(work.validation_request(calibration, script))
    own = work.plan.campaign.thresholds.get(calibration, {})
    judged = (f.with_threshold(Threshold.from_json(own[f.name]) if f.name in own else None) for f in figures)
    idle = sorted(own.keys() - {f.name for f in figures} - {DRIFT})
    return _Judgement(tuple(judged), tuple(idle), time.monotonic() - started)


def _validated(
    work: BucketWork, calibration: str, payloads: PayloadRecord, judged: _Judgement
) -> dg.MaterializeResult[Any]:
    figures = judged.figures
    directory = work.workshop.places(work.plan.campaign.site).validation(
        work.plan.name, work.bucket, calibration=calibration
    )
    metadata: Metadata = {
        VERDICT: dg.MetadataValue.text(judged.verdict.value),
        EVIDENCE: dg.MetadataValue.text(payloads.content),
        FAILED_FIGURES: dg.MetadataValue.json(sorted(f.name for f in figures if f.verdict is Verdict.fail)),
        "figures": figure_table(figures),
        "plots": dg.MetadataValue.path(str(directory)),
        **plots(directory),
        **seconds({"validation": judged.spent}),
    }
    if judged.remark:
        metadata["remark"] = dg.MetadataValue.text(judged.remark)
    values = [(figure.name, figure.value, figure.verdict.value) for figure in figures]
    version = hashlib.sha256(json.dumps([payloads.content, values, *judged.idle], allow_nan=True).encode()).hexdigest()[
        :32
    ]
    key = calibration_key(work.plan.name, calibration, Part.validation)
    return dg.MaterializeResult(key, metadata=metadata, data_version=dg.DataVersion(version))


def _check_figures(key: dg.AssetKey, judged: _Judgement) -> dg.AssetCheckResult:
    failed = judged.verdict is Verdict.fail
    values = {figure.name: round_for_people(figure.value) for figure in judged.figures}
    remark = {"remark": judged.remark} if judged.remark else {}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=FIGURES,
        passed=judged.verdict is Verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        metadata={**values, **remark, "table": figure_table(judged.figures)},
    )


def _sign_off(
    context: dg.AssetExecutionContext,
    work: BucketWork,
    calibration: str,
    *,
    payloads: PayloadRecord,
    verdict: Verdict | None,
) -> Iterator[dg.MaterializeResult[Any]]:
    """The decision that stands over these payloads, made by the rule when nobody made one."""
    decision = work.ledger.sign_off(calibration)
    if decision is None and verdict is not None:
        rule = work.plan.campaign.gates.auto_sign_off
        subject = (work.plan.name, work.bucket.key, calibration)
        decision = decide_by_rule(rule, verdict, subject, evidence=payloads.content, when=datetime.now(UTC))
        if decision is not None:
            work.workshop.sign_offs.record(decision)
    if decision is None:
        now = work.looking_again(context.instance).ledger
        wait_at_gate(context, now.reasons_against_signing_off(calibration), work.workshop.listener)
        return
    key = calibration_key(work.plan.name, calibration, Part.sign_off)
    version = dg.DataVersion(sign_off_version(decision))
    yield dg.MaterializeResult(key, metadata=sign_off_metadata(decision), data_version=version)
