"""What Dagster has recorded of a bucket's results, and what people decided over them. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

from b2cal_assets.asset_keys import (
    Part,
    bucket_runs_key,
    calibration_key,
    cdst_key,
    import_key,
    offer_key,
    published_key,
)
from b2cal_assets.bulk_records import latest_materializations
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_core.buckets import Bucket
from b2cal_core.data_shortage import ShortageChoice
from b2cal_core.gates import CalibrationStanding
from b2cal_core.ports import SignOffLog
from b2cal_core.redo import Redo
from b2cal_core.verdicts import Decision, SignOff, Verdict, redo_in_force, standing
from b2cal_core.waivers import waiver_over

CONTENT, NAMES, VERDICT, EVIDENCE = "content", "payload names", "verdict", "evidence"
FAILED_FIGURES, MADE_FROM, REDONE = "failed figures", "made from", "redone with"
SELECTED, LACKING, PUBLISHED_AT, PLAN_HASH = "selected files", "lacking", "published at", "plan hash"
"""Metadata that later steps rely on."""
_PARTS = frozenset(Part)


@dataclass(frozen=True, slots=True)
class PayloadRecord:
    """The payloads a calibration made last, or an import brought: a hash of their content and IoVs, and their names."""

    content: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What source tags had for an import when they were looked at last.

    Attributes:
        content: a hash of the payloads and IoVs, clipped to the bucket.
        lacking: what hinders the import, in sentences.
    """

    content: str
    lacking: tuple[str, ...]


def moment_of(told: Any) -> datetime:  # noqa: ANN401 (Dagster's metadata of any kind)
    """The moment in UTC that a text in ISO form tells."""
    return datetime.fromisoformat(str(told.value))


class BucketRecords:
    """One bucket of one campaign, as it stood when a thing was first asked; make a new one to look again.

    Args:
        instance: where the materialisations are recorded.
        sign_offs: where the decisions are.
        now: at which waivers are judged; by default when this is made.
    """

    def __init__(
        self,
        plan: CampaignPlan,
        bucket: Bucket,
        *,
        instance: dg.DagsterInstance,
        sign_offs: SignOffLog,
        now: datetime | None = None,
    ) -> None:
        self._plan, self._bucket, self._instance, self._sign_offs = plan, bucket, instance, sign_offs
        self._now = now or datetime.now(UTC)
        self._seen: dict[dg.AssetKey, dg.EventLogRecord | None] = {}

    @property
    def plan(self) -> CampaignPlan:
        """The plan of the bucket's campaign."""
        return self._plan

    @property
    def bucket(self) -> Bucket:
        """The bucket that this is the ledger of."""
        return self._bucket

    def read_all(self) -> None:
        """Read what is recorded of every asset as it stands now, in one question instead of one for each."""
        offers = (offer_key(self._plan.name, name) for name in self._plan.imports)
        keys = [*self._plan.asset_keys(), bucket_runs_key(self._plan.name), *offers]
        found = latest_materializations(self._instance, keys, self._bucket.key)
        self._seen |= {key: found.get(key) for key in keys}

    def payloads(self, name: str) -> PayloadRecord | None:
        """The payloads that a calibration made last, or an import brought; or ``None``."""
        found = self.metadata(self._payloads_key(name))
        if found is None:
            return None
        return PayloadRecord(str(found[CONTENT].value), tuple(found[NAMES].value))

    def offer(self, name: str) -> Offer | None:
        """What the source tags of an import had for the bucket last; ``None`` when nobody has looked."""
        found = self.metadata(offer_key(self._plan.name, name))
        return None if found is None else Offer(str(found[CONTENT].value), tuple(found[LACKING].value))

    def choices(self, calibration: str) -> tuple[ShortageChoice, ...]:
        """What was chosen for a calibration that had not enough data, in order."""
        return tuple(choice for choice in self._choices if choice.calibration == calibration)

    @cached_property
    def _choices(self) -> tuple[ShortageChoice, ...]:
        return self._sign_offs.choices(self._plan.name, self._bucket.key)

    def verdict(self, calibration: str) -> Verdict | None:
        """The verdict over the payloads made last; one over earlier payloads does not count."""
        payloads = self.payloads(calibration)
        found = self.metadata(calibration_key(self._plan.name, calibration, Part.validation))
        if payloads is None or found is None or found[EVIDENCE].value != payloads.content:
            return None
        return Verdict(found[VERDICT].value)

    def sign_off(self, calibration: str) -> SignOff | None:
        """What stands over the payloads made last: a person's decision, a waiver while it lasts, or the rule's."""
        payloads = self.payloads(calibration)
        if payloads is None:
            return None
        stands = standing(self.decisions(calibration), payloads.content)
        return stands if stands is not None and not stands.by_rule else self._waiver(calibration, payloads) or stands

    def _waiver(self, calibration: str, payloads: PayloadRecord) -> SignOff | None:
        if self.verdict(calibration) is not Verdict.fail:
            return None
        failed = self.failed_figures(calibration)
        return waiver_over(self.decisions(calibration), payloads.content, failed=failed, now=self._now)

    def failed_figures(self, calibration: str) -> tuple[str, ...]:
        """The figures of the last validation that fail; none also when their names were not recorded."""
        found = self.metadata(calibration_key(self._plan.name, calibration, Part.validation)) or {}
        return tuple(found[FAILED_FIGURES].value) if FAILED_FIGURES in found else ()

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
            is_remade_alike=self.is_remade_alike(calibration),
        )

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

    @property
    def published_at(self) -> datetime | None:
        """When the bucket was published, in UTC, however often it was looked at since; ``None`` when it was not."""
        key = published_key(self._plan.name)
        found = self.metadata(key)
        if found is None:
            return None
        return (
            moment_of(found[PUBLISHED_AT]) if PUBLISHED_AT in found else datetime.fromtimestamp(self.made_at(key), UTC)
        )

    def times_made(self, key: dg.AssetKey, most: int) -> int:
        """How often the asset was made for the bucket, counted up to ``most``."""
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[self._bucket.key])
        return len(self._instance.fetch_materializations(wanted, limit=most).records)

    def redo(self, calibration: str) -> Redo:
        """What is done otherwise whenever the calibration is made for this bucket."""
        return redo_in_force(self.decisions(calibration))

    def told_at(self, key: dg.AssetKey) -> float:
        """When a person said last what is to be done otherwise, in seconds since 1970; 0 when nobody did.

        What is imported is told otherwise by its source tags.
        """
        if (name := self._plan.import_of(key)) is not None:
            return self.made_at(offer_key(self._plan.name, name))
        told = self.decisions(self._plan.calibration_of(key)) if key.path[-1] in _PARTS else ()
        return max((decision.when.timestamp() for decision in told if decision.redo is not None), default=0.0)

    def awaits_redo(self, calibration: str) -> bool:
        """Whether the payloads were rejected with what to do otherwise, and that was not done yet."""
        signed, made = self.sign_off(calibration), self.metadata(self._payloads_key(calibration)) or {}
        if signed is None or signed.decision is not Decision.rejected:
            return False
        return self.redo(calibration) != (Redo.from_json(made[REDONE].value) if REDONE in made else Redo())

    def is_remade_alike(self, calibration: str) -> bool:
        """Whether the payloads were rejected and are the same after their redo, which nothing would change by now."""
        signed, key = self.sign_off(calibration), self._payloads_key(calibration)
        if signed is None or signed.decision is not Decision.rejected:
            return False
        if self.awaits_redo(calibration) or self._changes(key):
            return False
        return signed.redo is not None or self.made_at(key) > signed.when.timestamp()

    def origin(self, key: dg.AssetKey) -> dict[str, dg.MetadataValue[Any]]:
        """What an asset that is made now is made from, as metadata by which ``outdated`` tells later."""
        seen = {name: made.content for name in self._seen_by(key) if (made := self.payloads(name)) is not None}
        told: dict[str, dg.MetadataValue[Any]] = {MADE_FROM: dg.MetadataValue.json(seen)}
        if selected := self._selected(key):
            told |= {SELECTED: dg.MetadataValue.text(selected)}
        redo = self.redo(self._plan.calibration_of(key)) if key.path[-1] in _PARTS else Redo()
        return told if redo.is_empty else told | {REDONE: dg.MetadataValue.text(redo.to_json())}

    def outdated(self, key: dg.AssetKey) -> tuple[str, ...]:
        """Why an asset that was made should be made again; nothing when it is as it should be."""
        if key.path[-1] in {Part.validation, Part.sign_off}:
            return ()  # these are lacking as soon as there are other payloads
        if key.path[-1] not in _PARTS:
            return self._changes(key)
        calibration = self._plan.calibration_of(key)
        signed, asked = self.sign_off(calibration), self.redo(calibration).in_words()
        rejected: tuple[str, ...] = ()
        if signed is not None and signed.decision is Decision.rejected:
            done = ", and the redo gave the same" if self.is_remade_alike(calibration) else ""
            then = f", to be redone: {asked or 'as at first'}" if self.awaits_redo(calibration) else done
            rejected = (f"{calibration} was rejected by {signed.author} ({signed.reason}){then}",)
        return (*rejected, *self._changes(self._payloads_key(calibration)))

    def _changes(self, key: dg.AssetKey) -> tuple[str, ...]:
        """What became of what payloads, cDST files, an import or a publication were made from."""
        if (name := self._plan.import_of(key)) is not None:
            return self._other_offer(name)
        made = self.metadata(key) or {}
        before: Mapping[str, str] = made[MADE_FROM].value if MADE_FROM in made else {}
        what = self._plan.calibration_of(key) if key.path[-1] in _PARTS else key.path[-1]
        other = (f"the runs of the bucket, their quality or files changed since {what} was made",)
        return (*(other if self.reads_other_files(key) else ()), *self._remade(what, before))

    def reads_other_files(self, key: dg.AssetKey) -> bool:
        """Whether payloads or cDST files were made from other registered files than the bucket has now."""
        made = self.metadata(key) or {}
        then, now = str(made[SELECTED].value) if SELECTED in made else "", self._selected(key)
        return bool(then and now) and then != now

    def _remade(self, what: str, before: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(
            f"{what} was made from payloads of {name} that were made anew since"
            for name, content in before.items()
            if (now := self.payloads(name)) is not None and now.content != content
        )

    def _other_offer(self, name: str) -> tuple[str, ...]:
        """That source tags have something else for the bucket than was imported; nothing once it is published."""
        offer, made = self.offer(name), self.payloads(name)
        if offer is None or made is None or offer.content == made.content or self.has(published_key(self._plan.name)):
            return ()
        tags = ", ".join(source.tag for source in self._plan.sources(name))
        return (f"what {tags} has for the bucket changed since {name} was made", *offer.lacking)

    def _selected(self, key: dg.AssetKey) -> str:
        """A hash of the registered files that an asset is made from, as reported last; empty while none was."""
        reported = self.metadata(bucket_runs_key(self._plan.name)) or {}
        own = self._plan.calibration_of(key) if key.path[-1] in _PARTS else key.path[-1]
        return str(reported[SELECTED].value.get(own, "")) if SELECTED in reported else ""

    def _seen_by(self, key: dg.AssetKey) -> tuple[str, ...]:
        """The imports and calibrations whose payloads an asset is made from."""
        if key == published_key(self._plan.name):
            return (*self._plan.imports, *self._plan.calibrations)
        if key == cdst_key(self._plan.name):
            return (*self._plan.imports, *self._plan.raw_stage)
        if self._plan.import_of(key) is not None:
            return ()
        return self._plan.visible(self._plan.calibration_of(key))

    def _payloads_key(self, name: str) -> dg.AssetKey:
        if name in self._plan.imports:
            return import_key(self._plan.name, name)
        return calibration_key(self._plan.name, name, Part.payloads)

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
