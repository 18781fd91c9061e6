"""What is recorded of a bucket, and what that means for its gates. Reads only."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import dagster as dg

from b2cal_assets.asset_keys import Part, bucket_runs_key, calibration_key, cdst_key, import_key, published_key
from b2cal_assets.bucket_records import BucketRecords
from b2cal_assets.bulk_records import made_partitions
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Gate, RedoPolicy
from b2cal_core.data_shortage import joined_bucket, reasons_to_wait, standing_remedy
from b2cal_core.gates import check_gate, check_order, sign_off_command
from b2cal_core.reminders import OpenSignOff
from b2cal_core.settings import asset_name
from b2cal_core.verdicts import Decision


class BucketLedger(BucketRecords):
    """The gates of one bucket, and what it lacks."""

    def of(self, bucket: Bucket) -> "BucketLedger":
        """That of another bucket of the campaign."""
        return BucketLedger(self._plan, bucket, instance=self._instance, sign_offs=self._sign_offs, now=self._now)

    def reasons_against_calibrating(self, calibration: str) -> tuple[str, ...]:
        """Why a calibration may not start; nothing when it may."""
        shut = self._gate(self._plan.campaign.gates.downstream, self._plan.upstream(calibration))
        return (*self._reasons_of_imports(), *shut)

    def reasons_against_importing(self, name: str) -> tuple[str, ...]:
        """Why local calibrations cannot be imported, as the source tags were seen last; nothing when they can."""
        offer = self.offer(name)
        return () if offer is None else offer.lacking

    def reasons_against_cdst(self) -> tuple[str, ...]:
        """Why cDST files may not be produced; nothing when they may."""
        shut = self._gate(self._plan.campaign.gates.cdst, self._plan.raw_stage)
        imports = self._reasons_of_imports(fresh=True)
        return (*imports, *shut, *self._not_judged(self._plan.raw_stage), *self._not_fresh(self._plan.raw_stage))

    def reasons_against_publishing(self, buckets: Iterable[Bucket]) -> tuple[str, ...]:
        """Why the bucket may not be published; ``buckets`` are all of the campaign."""
        published = self._instance.get_materialized_partitions(published_key(self._plan.name))
        names = self._plan.calibrations
        shut = self._gate(self._plan.campaign.gates.publish, names)
        late = check_order(self._bucket, buckets, published, campaign=self._plan.name)
        imports = self._reasons_of_imports(fresh=True)
        return (*imports, *shut, *self._not_judged(names), *self._not_fresh(names), *late)

    def reasons_against_reading_cdst(self) -> tuple[str, ...]:
        """Why calibrations of the cDST stage may not start; nothing when there are cDST files."""
        if self.has(cdst_key(self._plan.name)):
            return ()
        return (f"bucket {self._bucket.key} has no cDST files yet; they are produced when its raw stage is done",)

    def missing(self) -> tuple[dg.AssetKey, ...]:
        """The assets of the campaign that the bucket lacks, in the order of the work.

        A validation or a sign-off over payloads that were made anew since counts as lacking, and so does what is to be
        made again: as its rejection asks for, because its runs changed, or because other things that it was made from
        changed and the campaign wants that.
        """
        return tuple(key for key in self._plan.asset_keys() if self._lacks(key))

    def is_made(self, key: dg.AssetKey) -> bool:
        """Whether the asset was made, over the payloads that are there now."""
        return not self._lacks(key)

    def _lacks(self, key: dg.AssetKey) -> bool:
        if self._plan.import_of(key) is not None and self.has(published_key(self._plan.name)):
            return False  # it was published with what it has, or before its campaign imported anything
        if not self.has(key) or self._is_made_again(key):
            return True
        if key.path[-1] == Part.validation:
            return self.verdict(self._plan.calibration_of(key)) is None
        return key.path[-1] == Part.sign_off and self.sign_off(self._plan.calibration_of(key)) is None

    def _is_made_again(self, key: dg.AssetKey) -> bool:
        """Whether the payloads, and with them what judges them, or the cDST files are to be made again."""
        if key == published_key(self._plan.name):
            return False  # a running tag is never changed backwards; a person looks whether anything can be done
        own = (self._plan.calibration_of(key),) if self._is_of_calibration(key) else ()
        if any(self.awaits_redo(name) for name in own) or self.reads_other_files(self.source(key)):
            return True
        if self._plan.campaign.gates.redo_downstream is RedoPolicy.ask:
            return False
        before = self._seen_by(key)
        made = {self._payloads_key(name) for name in (*own, *before)} | ({key} if not own else set())
        return any(map(self.awaits_redo, before)) or any(map(self._changes, made))

    def source(self, key: dg.AssetKey) -> dg.AssetKey:
        """The asset that is made again where this one is: the payloads for all parts of a calibration, else itself."""
        return self._payloads_key(self._plan.calibration_of(key)) if self._is_of_calibration(key) else key

    def _is_of_calibration(self, key: dg.AssetKey) -> bool:
        of_bucket = key in {cdst_key(self._plan.name), published_key(self._plan.name)}
        return not of_bucket and self._plan.import_of(key) is None

    def is_left_to_people(self, key: dg.AssetKey) -> bool:
        """Whether the asset is to be made again, and the campaign does not do that by itself, or did it too often."""
        source = self.source(key)
        if not self.has(source) or not self._is_made_again(source):
            return False
        return self._is_by_hand(source) or bool(self._was_redone_enough(source))

    def _is_by_hand(self, source: dg.AssetKey) -> bool:
        """Whether it was rejected, or its runs changed, and a person starts the redo."""
        if self.reads_other_files(source) and self._plan.campaign.gates.redo_downstream is RedoPolicy.ask:
            return True
        if self._plan.campaign.gates.redo is RedoPolicy.always or not self._is_of_calibration(source):
            return False
        return self.awaits_redo(self._plan.calibration_of(source))

    def _was_redone_enough(self, key: dg.AssetKey) -> str:
        """In words, that payloads or cDST files were made so often that only a person makes them again."""
        limit = self._plan.campaign.gates.redo_limit
        if self.times_made(key, limit + 1) <= limit:
            return ""
        return f"it was made {limit + 1} times or more, so that only a person makes it again (gates.redo_limit)"

    def outdated(self, key: dg.AssetKey) -> tuple[str, ...]:
        """Why an asset that was made should be made again, and that it is no more by itself; nothing otherwise."""
        why = super().outdated(key)
        by_itself = bool(why) and self._is_made_again(key) and not self._is_by_hand(key)
        return (*why, *filter(None, [self._was_redone_enough(self.source(key)) if by_itself else ""]))

    def reasons_against(self, key: dg.AssetKey, buckets: Iterable[Bucket]) -> tuple[str, ...]:
        """Why the step of an asset may not start, whatever asset of the campaign it is; ``buckets`` are all of it."""
        if key == published_key(self._plan.name):
            return self.reasons_against_publishing(buckets)
        if key == cdst_key(self._plan.name):
            return self.reasons_against_cdst()
        if (name := self._plan.import_of(key)) is not None:
            return self.reasons_against_importing(name)
        calibration, part = self._plan.calibration_of(key), Part(key.path[-1])
        if part in {Part.collector_output, Part.payloads}:
            return (*self._reasons_against_collecting(calibration), *self.shortage_reasons(calibration, buckets))
        if part is Part.sign_off:
            return self.reasons_against_signing_off(calibration)
        return () if self.payloads(calibration) else (f"{calibration} has no payloads yet in {self._bucket.key}",)

    def _reasons_against_collecting(self, calibration: str) -> tuple[str, ...]:
        late = self.reasons_against_reading_cdst() if calibration in self._plan.cdst_stage else ()
        return (*self.reasons_against_calibrating(calibration), *late)

    def shortage_reasons(self, calibration: str, buckets: Iterable[Bucket]) -> tuple[str, ...]:
        """Why a calibration that had not enough data may not go on; nothing when it may, or had enough."""
        choices, known = self.choices(calibration), tuple(buckets)
        is_last = self._plan.campaign.ends_in(self._bucket)
        if waits := reasons_to_wait(choices, self._bucket, known, is_last=is_last):
            return waits
        other = joined_bucket(standing_remedy(choices), self._bucket, known)
        return () if other is None else self.of(other)._reasons_against_collecting(calibration)  # noqa: SLF001 (of the same class)

    def reasons_against_signing_off(self, calibration: str) -> tuple[str, ...]:
        """Why the sign-off is still open; nothing when a person decided or the rule would accept."""
        verdict, rule = self.verdict(calibration), self._plan.campaign.gates.auto_sign_off
        if self.sign_off(calibration) is not None or (verdict is not None and rule.accepts(verdict)):
            return ()
        if self.payloads(calibration) is None:
            return (f"{calibration} has no payloads yet in {self._bucket.key}",)
        seen = "was not validated" if verdict is None else f"has the verdict {verdict.value}"
        then = sign_off_command(f"{self._plan.name} {self._bucket.key}", asset_name(calibration))
        return (f"{calibration} {seen} and waits for its expert{self._ended_waiver(calibration)}: {then}",)

    def rejection(self, key: dg.AssetKey) -> tuple[str, ...]:
        """That a sign-off is a rejection, by whom, why, and what to do; nothing for any other asset or decision."""
        if key.path[-1] != Part.sign_off:
            return ()
        calibration = self._plan.calibration_of(key)
        signed = self.sign_off(calibration)
        is_rejected = signed is not None and signed.decision is Decision.rejected
        return self._gate(Gate.verdict, [calibration]) if is_rejected else ()

    def _ended_waiver(self, calibration: str) -> str:
        """In brackets, that there was a waiver over the payloads; empty when there was none."""
        payloads = self.payloads(calibration)
        content = payloads.content if payloads is not None else ""
        ended = [d for d in self.decisions(calibration) if d.evidence == content and d.has_ended(self._now)]
        return f" (the waiver of {ended[-1].author} ended on {ended[-1].until:%Y-%m-%d})" if ended else ""

    def open_sign_offs(self) -> tuple[OpenSignOff, ...]:
        """The results of the bucket that are judged and wait for a person."""
        return tuple(self._open(name) for name in self._plan.calibrations if self._waits_for_a_person(name))

    def _waits_for_a_person(self, calibration: str) -> bool:
        return self.verdict(calibration) is not None and bool(self.reasons_against_signing_off(calibration))

    def _open(self, calibration: str) -> OpenSignOff:
        payloads, verdict = self.payloads(calibration), self.verdict(calibration)
        judged = self.made_at(calibration_key(self._plan.name, calibration, Part.validation))
        return OpenSignOff(
            self._plan.name,
            self._bucket.key,
            calibration,
            evidence=payloads.content if payloads is not None else "",
            since=datetime.fromtimestamp(judged, UTC),
            verdict=verdict.value if verdict is not None else "",
            deciders=self._plan.campaign.deciders(self._plan.settings(calibration).expert_username),
        )

    def _reasons_of_imports(self, *, fresh: bool = False) -> tuple[str, ...]:
        """Why what reads imports may not start yet; with ``fresh``, also when a source tag has something else since."""
        keys = {name: import_key(self._plan.name, name) for name in self._plan.imports}
        waits = (name for name, key in keys.items() if self._lacks(key) or (fresh and self._changes(key)))
        return tuple(reason for name in waits for reason in self._why_to_import(name))

    def _why_to_import(self, name: str) -> tuple[str, ...]:
        place = f"{self._plan.name} {self._bucket.key}"
        changed = "; ".join(self._changes(import_key(self._plan.name, name)))
        why = changed or f"{name} is not imported yet in {place}"
        return self.reasons_against_importing(name) or (f"{why}; import it: b2cal bucket run {place} --only {name}",)

    def _not_fresh(self, calibrations: Sequence[str]) -> tuple[str, ...]:
        """Payloads made from others, or from runs, that changed since, unless a person accepted them after that."""
        place = f"{self._plan.name} {self._bucket.key}"
        return tuple(
            f"{self._changes(self._payloads_key(name))[0]}; redo it, or accept it as it is: "
            f"b2cal bucket run {place} --only {asset_name(name)}"
            for name in calibrations
            if self._changes(self._payloads_key(name)) and not self._is_accepted_since(name)
        )

    def _is_accepted_since(self, calibration: str) -> bool:
        signed = self.sign_off(calibration)
        changed = [self._payloads_key(name) for name in self._plan.visible(calibration)]
        if self.reads_other_files(self._payloads_key(calibration)):
            changed.append(bucket_runs_key(self._plan.name))
        last = max(map(self.made_at, changed), default=0.0)
        return signed is not None and not signed.by_rule and signed.when.timestamp() >= last

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


def started_buckets(plan: CampaignPlan, instance: dg.DagsterInstance) -> set[str]:
    """Keys of the buckets for which a calibration has collected anything."""
    keys = [calibration_key(plan.name, name, Part.collector_output) for name in plan.calibrations]
    return set().union(*made_partitions(instance, keys).values())


def finished_buckets(plan: CampaignPlan, instance: dg.DagsterInstance) -> set[str]:
    """Keys of the buckets of which every asset was made."""
    return set.intersection(*map(set, made_partitions(instance, decisive_keys(plan)).values()))


def decisive_keys(plan: CampaignPlan) -> tuple[dg.AssetKey, ...]:
    """The assets without which no bucket is finished; one published before its campaign imported anything is."""
    return tuple(key for key in plan.asset_keys() if plan.import_of(key) is None)
