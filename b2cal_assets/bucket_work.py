"""One bucket being worked: what its steps ask of the ports, and what they keep on disk."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from b2cal_assets.bucket_inputs import runs_of
from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.campaign_plans import CDST, CampaignPlan
from b2cal_assets.staging import input_tag, links_of
from b2cal_assets.workshop import Workplaces, Workshop
from b2cal_caf.atomic_files import write_atomically
from b2cal_core.buckets import Bucket
from b2cal_core.data_shortage import joined_bucket, standing_remedy
from b2cal_core.errors import DataError
from b2cal_core.ports import CafRequest, CdstRequest, ValidationRequest
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.remedies import Remedy
from b2cal_core.runs import RunRecord, SelectedFile, select_files
from b2cal_core.settings import CalibrationSettings, asset_name

MANIFEST = "manifest.json"
_RECORDS: TypeAdapter[tuple[RunRecord, ...]] = TypeAdapter(tuple[RunRecord, ...])
_FORMATS = ("raw", "cdst", "mdst", "udst")
"""Of several formats a script can read, the first one is used."""


@dataclass(frozen=True)
class BucketWork:
    """A bucket of a campaign, with the ports to work it."""

    plan: CampaignPlan
    bucket: Bucket
    workshop: Workshop
    ledger: BucketLedger

    @classmethod
    def of(cls, plan: CampaignPlan, key: str, workshop: Workshop, *, instance: dg.DagsterInstance) -> "BucketWork":
        """The work on the bucket with this partition key."""
        bucket = Bucket.from_key(key)
        ledger = BucketLedger(plan, bucket, instance=instance, sign_offs=workshop.sign_offs)
        return cls(plan, bucket, workshop, ledger)

    def looking_again(self, instance: dg.DagsterInstance) -> "BucketWork":
        """The same work, with what was recorded since."""
        return BucketWork.of(self.plan, self.bucket.key, self.workshop, instance=instance)

    @cached_property
    def staging_tag(self) -> str:
        """The bucket's staging tag."""
        return self.plan.staging_tag(self.bucket)

    def checksums(self) -> Mapping[str, str]:
        """Path to SHA-256 of the files that calibrations of the bucket may have read."""
        made = self.cdst_records() if (self._cdst_directory / MANIFEST).exists() else ()
        return {file.path: file.checksum for record in (*self.records, *made) for file in record.files}

    @cached_property
    def records(self) -> tuple[RunRecord, ...]:
        """The registered runs of the bucket, without those that came too late for it."""
        shop = self.workshop
        return runs_of(self.ledger, shop.runs, shop.campaigns, shop.publisher).taken

    @property
    def previous_bucket(self) -> Bucket | None:
        """The bucket of the campaign before this one."""
        earlier = [b for b in self.workshop.campaigns.buckets(self.plan.name) if b.last < self.bucket.first]
        return max(earlier, default=None)

    def chain(self, steps: Iterable[str]) -> tuple[str, ...]:
        """The base tags, and above them what these imports and calibrations have made for the bucket."""
        made = (self.ledger.payloads(name) for name in steps)
        names = {name for record in made if record is not None for name in record.names}
        own = input_tag(self.workshop.conditions, self.staging_tag, names) if names else None
        return self.plan.campaign.base_tags if own is None else (*self.plan.campaign.base_tags, own)

    def request_directory(self, calibration: str) -> Path:
        """Where the CAF works on a calibration."""
        return self._places.request(self.plan.name, self.bucket, calibration=calibration)

    def expert_config(self, calibration: str) -> dict[str, Any]:
        """The configuration of a calibration, with what its rejections in this bucket ask for."""
        return {**self.plan.expert_config(calibration), **self.ledger.redo(calibration).config}

    def remedy(self, calibration: str) -> Remedy:
        """What holds for a calibration that had not enough data; ``alone`` at first."""
        return standing_remedy(self.ledger.choices(calibration))

    def joined(self, calibration: str) -> "BucketWork | None":
        """The bucket whose data a calibration takes as well, since those of its own were not enough."""
        buckets = self.workshop.campaigns.buckets(self.plan.name)
        other = joined_bucket(self.remedy(calibration), self.bucket, buckets)
        return None if other is None else BucketWork(self.plan, other, self.workshop, self.ledger.of(other))

    def shortage_reasons(self, calibration: str) -> tuple[str, ...]:
        """Why a calibration that had not enough data may not go on; nothing when it may."""
        return self.ledger.shortage_reasons(calibration, self.workshop.campaigns.buckets(self.plan.name))

    def caf_request(self, calibration: str) -> CafRequest:
        """What the CAF is asked for; with data of another bucket where those of this one are not enough."""
        own = self.own_request(calibration)
        joined = self.joined(calibration)
        if joined is None:
            return own
        other = joined.own_request(calibration)
        base = len(self.plan.campaign.base_tags)
        names = own.input_data.keys() | other.input_data.keys()
        first, last = min(self.bucket, joined.bucket).first, max(self.bucket, joined.bucket).last
        return replace(
            own,
            database_chain=(*own.database_chain[:base], *other.database_chain[base:], *own.database_chain[base:]),
            requested_iov=IoV(*first, *last),
            input_data={name: (*other.input_data.get(name, ()), *own.input_data.get(name, ())) for name in names},
        )

    def own_request(self, calibration: str) -> CafRequest:
        """What the CAF is asked for with the data of this bucket alone."""
        return CafRequest(
            directory=self.request_directory(calibration),
            script=self.plan.script(calibration),
            database_chain=self.chain(self.plan.visible(calibration)),
            requested_iov=self.bucket.iov,
            input_data=self._input_data(self.plan.settings(calibration)),
            expert_config=self.expert_config(calibration),
            failure_policy=self.plan.campaign.failure_policy(calibration),
            priority=self.plan.priority(calibration),
        )

    def validation_request(self, calibration: str, script: Path) -> ValidationRequest:
        """What the validation is asked for."""
        return ValidationRequest(
            directory=self._places.validation(self.plan.name, self.bucket, calibration=calibration),
            script=script,
            job_path=self.request_directory(calibration),
            requested_iov=self.bucket.iov,
            expert_config=self.expert_config(calibration),
            previous=self.previous_payloads(calibration),
        )

    def cdst_request(self) -> CdstRequest:
        """What is to be reconstructed: the raw files that a calibration of the cDST stage asks for."""
        wanted = {
            selected.file.path
            for name in self.plan.cdst_stage
            for files in self._select(self.plan.settings(name), self.records, "raw").values()
            for selected in files
        }
        runs = (replace(r, files=tuple(f for f in r.files if f.path in wanted)) for r in self.records)
        chosen = tuple(record for record in runs if record.files)
        if not chosen:
            raise DataError(
                f"no raw file of bucket {self.bucket.key} is asked for by the calibrations of the cDST stage; "
                "look at the quality of its runs: b2cal runs list"
            )
        chain = self.chain((*self.plan.imports, *self.plan.raw_stage))
        urgency = self.plan.priority(CDST)
        return CdstRequest(self._cdst_directory, chosen, chain, self.plan.campaign.failures, priority=urgency)

    def registered_cdst(self) -> tuple[RunRecord, ...]:
        """The bucket's runs with the cDST files that the registry has of them."""
        runs = (replace(r, files=tuple(f for f in r.files if f.data_format == "cdst")) for r in self.records)
        return tuple(record for record in runs if record.files)

    def keep_cdst(self, records: tuple[RunRecord, ...]) -> Path:
        """Write down which cDST files the bucket has."""
        file = self._cdst_directory / MANIFEST
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, _RECORDS.dump_json(records, indent=1))
        return file

    def cdst_records(self) -> tuple[RunRecord, ...]:
        """The runs with the cDST files the bucket has; ``DataError`` when that is not known any more."""
        file = self._cdst_directory / MANIFEST
        try:
            return _RECORDS.validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError) as error:
            raise DataError(
                f"{file} is missing or damaged; make the cDST files of the bucket again: "
                f"b2cal bucket run {self.plan.name} {self.bucket.key} --only cdst"
            ) from error

    def previous_payloads(self, step: str) -> Path | None:
        """A testing payload storage with what was valid before the bucket, of the names a step has staged."""
        conditions, before = self.workshop.conditions, self.previous_bucket
        made = self.ledger.payloads(step)
        names = set(self.plan.produced(step)) | set(made.names if made else ())
        chain = list(self.plan.campaign.base_tags)
        at = self.bucket.first
        if before is not None and links_of(conditions, self.plan.staging_tag(before), names):
            chain.append(self.plan.staging_tag(before))
            at = before.last
        directory = self._places.work(self.plan.name, self.bucket) / "previous_payloads" / asset_name(step)
        return conditions.export(chain, directory, within=IoV(*at, *at), names=names).parent

    @property
    def _places(self) -> Workplaces:
        return self.workshop.places(self.plan.campaign.site)

    @property
    def _cdst_directory(self) -> Path:
        return self._places.cdst(self.plan.name, self.bucket)

    def _input_data(self, settings: CalibrationSettings) -> Mapping[str, tuple[tuple[Path, ExpRun], ...]]:
        data_format = next(name for name in _FORMATS if name in settings.input_data_formats)
        redo = self.ledger.redo(settings.name)
        taken = self.cdst_records() if data_format == "cdst" else self.records
        records = tuple(record for record in taken if not redo.leaves_out(record.run))
        selected = self._select(settings, records, data_format)
        if not any(selected.values()):
            filters = {name: list(settings.input_data_filters.get(name, ())) for name in sorted(selected)}
            raise DataError(
                f"no {data_format} file of the {len(records)} runs of bucket {self.bucket.key} passes its filters "
                f"{filters}; look at the quality of the runs (b2cal runs list) or mend the filters of the script"
            )
        return {name: tuple((Path(s.file.path), s.run) for s in files) for name, files in selected.items()}

    def _select(
        self, settings: CalibrationSettings, records: Iterable[RunRecord], data_format: str
    ) -> dict[str, tuple[SelectedFile, ...]]:
        filters = {name: settings.input_data_filters.get(name, ()) for name in sorted(settings.input_data_names)}
        return select_files(records, filters, data_format=data_format, within=self.bucket.iov)
