"""What Dagster has recorded of a bucket, and what that means for its gates. Reads only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key, published_key
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Gate
from b2cal_core.gates import CalibrationStanding, check_gate, check_order
from b2cal_core.ports import SignOffLog
from b2cal_core.settings import asset_name
from b2cal_core.verdicts import Decision, SignOff, Verdict, standing

CONTENT, NAMES, VERDICT, EVIDENCE = "content", "payload names", "verdict", "evidence"
"""Metadata that later steps rely on."""


@dataclass(frozen=True, slots=True)
class PayloadRecord:
    """The payloads a calibration made last: a hash of their content and IoVs, and their names."""

    content: str
    names: tuple[str, ...]


class BucketLedger:
    """One bucket of one campaign, as it stood when a thing was first asked; make a new one to look again.

    Args:
        instance: where the materialisations are recorded.
        sign_offs: where the decisions are.
    """

    def __init__(
        self, plan: CampaignPlan, bucket: Bucket, *, instance: dg.DagsterInstance, sign_offs: SignOffLog
    ) -> None:
        self._plan, self._bucket, self._instance, self._sign_offs = plan, bucket, instance, sign_offs
        self._seen: dict[dg.AssetKey, dg.EventLogRecord | None] = {}

    @property
    def plan(self) -> CampaignPlan:
        """The plan of the bucket's campaign."""
        return self._plan

    @property
    def bucket(self) -> Bucket:
        """The bucket that this is the ledger of."""
        return self._bucket

    def payloads(self, calibration: str) -> PayloadRecord | None:
        """The payloads made last, or ``None``."""
        found = self.metadata(calibration_key(self._plan.name, calibration, Part.payloads))
        if found is None:
            return None
        return PayloadRecord(str(found[CONTENT].value), tuple(found[NAMES].value))

    def verdict(self, calibration: str) -> Verdict | None:
        """The verdict over the payloads made last; one over earlier payloads does not count."""
        payloads = self.payloads(calibration)
        found = self.metadata(calibration_key(self._plan.name, calibration, Part.validation))
        if payloads is None or found is None or found[EVIDENCE].value != payloads.content:
            return None
        return Verdict(found[VERDICT].value)

    def sign_off(self, calibration: str) -> SignOff | None:
        """The decision that stands over the payloads made last."""
        payloads = self.payloads(calibration)
        if payloads is None:
            return None
        return standing(self.decisions(calibration), payloads.content)

    def decisions(self, calibration: str) -> tuple[SignOff, ...]:
        """All decisions over results of the calibration, in the order they were logged."""
        return tuple(self._decisions.get(calibration, ()))

    def standing(self, calibration: str) -> CalibrationStanding:
        """How far the calibration is."""
        return CalibrationStanding(
            calibration,
            has_payloads=self.payloads(calibration) is not None,
            verdict=self.verdict(calibration),
            sign_off=self.sign_off(calibration),
        )

    def reasons_against_calibrating(self, calibration: str) -> tuple[str, ...]:
        """Why a calibration may not start; nothing when it may."""
        return self._gate(self._plan.campaign.gates.downstream, self._plan.upstream(calibration))

    def reasons_against_cdst(self) -> tuple[str, ...]:
        """Why cDST files may not be produced; nothing when they may."""
        shut = self._gate(self._plan.campaign.gates.cdst, self._plan.raw_stage)
        return (*shut, *self._not_judged(self._plan.raw_stage))

    def reasons_against_publishing(self, buckets: Iterable[Bucket]) -> tuple[str, ...]:
        """Why the bucket may not be published; ``buckets`` are all of the campaign."""
        published = self._instance.get_materialized_partitions(published_key(self._plan.name))
        shut = self._gate(self._plan.campaign.gates.publish, self._plan.calibrations)
        return (*shut, *self._not_judged(self._plan.calibrations), *self._order(buckets, published))

    def _order(self, buckets: Iterable[Bucket], published: Iterable[str]) -> tuple[str, ...]:
        return check_order(self._bucket, buckets, published, campaign=self._plan.name)

    def reasons_against_reading_cdst(self) -> tuple[str, ...]:
        """Why calibrations of the cDST stage may not start; nothing when there are cDST files."""
        if self.has(cdst_key(self._plan.name)):
            return ()
        return (f"bucket {self._bucket.key} has no cDST files yet; they are produced when its raw stage is done",)

    def missing(self) -> tuple[dg.AssetKey, ...]:
        """The assets of the campaign that the bucket lacks, in the order of the work.

        A validation or a sign-off over payloads that were made anew since counts as lacking.
        """
        return tuple(key for key in self._plan.asset_keys() if self._lacks(key))

    def is_made(self, key: dg.AssetKey) -> bool:
        """Whether the asset was made, over the payloads that are there now."""
        return not self._lacks(key)

    def _lacks(self, key: dg.AssetKey) -> bool:
        if key.path[-1] == Part.validation and self.verdict(self._plan.calibration_of(key)) is None:
            return True
        if key.path[-1] == Part.sign_off and self.sign_off(self._plan.calibration_of(key)) is None:
            return True
        return not self.has(key)

    def reasons_against(self, key: dg.AssetKey, buckets: Iterable[Bucket]) -> tuple[str, ...]:
        """Why the step of an asset may not start, whatever asset of the campaign it is; ``buckets`` are all of it."""
        if key == published_key(self._plan.name):
            return self.reasons_against_publishing(buckets)
        if key == cdst_key(self._plan.name):
            return self.reasons_against_cdst()
        calibration, part = self._plan.calibration_of(key), Part(key.path[-1])
        if part in {Part.collector_output, Part.payloads}:
            late = self.reasons_against_reading_cdst() if calibration in self._plan.cdst_stage else ()
            return (*self.reasons_against_calibrating(calibration), *late)
        if part is Part.sign_off:
            return self.reasons_against_signing_off(calibration)
        return () if self.payloads(calibration) else (f"{calibration} has no payloads yet in {self._bucket.key}",)

    def reasons_against_signing_off(self, calibration: str) -> tuple[str, ...]:
        """Why the sign-off is still open; nothing when a person decided or the rule would accept."""
        verdict, rule = self.verdict(calibration), self._plan.campaign.gates.auto_sign_off
        if self.sign_off(calibration) is not None or (verdict is not None and rule.accepts(verdict)):
            return ()
        if self.payloads(calibration) is None:
            return (f"{calibration} has no payloads yet in {self._bucket.key}",)
        seen = "was not validated" if verdict is None else f"has the verdict {verdict.value}"
        place = f"{self._plan.name} {self._bucket.key} {asset_name(calibration)}"
        return (f'{calibration} {seen} and waits for its expert: b2cal signoff accept|reject {place} --reason "…"',)

    def has(self, key: dg.AssetKey) -> bool:
        """Whether the asset was made for the bucket."""
        return self._record(key) is not None

    def metadata(self, key: dg.AssetKey) -> Mapping[str, Any] | None:
        """What was recorded with the asset when it was made last, or ``None``."""
        record = self._record(key)
        made = record.asset_materialization if record is not None else None
        return None if made is None else made.metadata

    def made_at(self, key: dg.AssetKey) -> float:
        """When the asset was made last, in seconds since 1970; 0 when it never was."""
        record = self._record(key)
        return 0.0 if record is None else record.timestamp

    def outdated(self, key: dg.AssetKey) -> tuple[str, ...]:
        """Why an asset that was made should be made again; nothing when it is as it should be."""
        if key.path[-1] not in {Part.collector_output, Part.payloads}:
            return ()
        calibration = self._plan.calibration_of(key)
        signed = self.sign_off(calibration)
        if signed is None or signed.decision is not Decision.rejected:
            return ()
        return (f"{calibration} was rejected by {signed.author} ({signed.reason})",)

    def _not_judged(self, calibrations: Sequence[str]) -> tuple[str, ...]:
        """Payloads that nobody and nothing has judged; the gate for the next calibration lets them through."""
        standings = (self.standing(name) for name in calibrations)
        return tuple(
            f"the payloads of {s.name} were not validated yet in {self._bucket.key}"
            for s in standings
            if s.has_payloads and s.verdict is None and s.sign_off is None
        )

    def _gate(self, gate: Gate, calibrations: Sequence[str]) -> tuple[str, ...]:
        standings = [self.standing(name) for name in calibrations]
        return check_gate(gate, standings, campaign=self._plan.name, bucket=self._bucket)

    def _record(self, key: dg.AssetKey) -> dg.EventLogRecord | None:
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[self._bucket.key])
        if key not in self._seen:
            records = self._instance.fetch_materializations(wanted, limit=1).records
            self._seen[key] = records[0] if records else None
        return self._seen[key]

    @cached_property
    def _decisions(self) -> Mapping[str, Sequence[SignOff]]:
        """Calibration to the decisions over it; one question for all of them."""
        found: dict[str, list[SignOff]] = {}
        for decision in self._sign_offs.decisions(self._plan.name, self._bucket.key):
            found.setdefault(decision.calibration, []).append(decision)
        return found


def started_buckets(plan: CampaignPlan, instance: dg.DagsterInstance) -> set[str]:
    """Keys of the buckets for which a calibration has collected anything."""
    keys = (calibration_key(plan.name, name, Part.collector_output) for name in plan.calibrations)
    return {partition for key in keys for partition in instance.get_materialized_partitions(key)}


def finished_buckets(plan: CampaignPlan, instance: dg.DagsterInstance) -> set[str]:
    """Keys of the buckets of which every asset was made."""
    made = [set(instance.get_materialized_partitions(key)) for key in plan.asset_keys()]
    return set.intersection(*made)
