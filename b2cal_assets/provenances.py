"""Where a bucket's payloads come from: recorded when they are made, completed with the judgement when published."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_work import BucketWork
from b2cal_assets.campaign_plans import code_version
from b2cal_assets.staging import input_tag_name, links_of
from b2cal_core.local_calibrations import LocalSource
from b2cal_core.ports import CafRequest, ConditionsDB
from b2cal_core.provenance import PayloadKey, Provenance
from b2cal_core.publishing import TagIov


def provenance_of(work: BucketWork, request: CafRequest) -> Provenance:
    """What a calibration was given and what it ran; its validation is not known yet."""
    checksums = work.checksums()
    files = sorted((str(path), run) for pairs in request.input_data.values() for path, run in pairs)
    return Provenance(
        code=f"release {work.plan.campaign.catalogue}, {request.script.name} {code_version(request.script) or 'lost'}",
        inputs=tuple(f"{path} sha256:{checksums.get(path, 'unknown')}" for path, _ in dict.fromkeys(files)),
        runs=tuple(run.edge for run in sorted({run for _, run in files})),
        tags=request.database_chain,
        upstream=_payloads_of_inputs(work, request),
        config=json.loads(json.dumps(dict(request.expert_config))),  # tuples and the like as they are read back
    )


def imported(source: LocalSource, *, subsystem: str, content: str, checks: Mapping[str, Any]) -> Provenance:
    """What is known of payloads that were made outside.

    Args:
        source: the tag they were found in.
        subsystem: whose tag that is.
        content: a hash of what it had of them for a bucket.
        checks: what was found when they were imported.
    """
    by = f"{subsystem}, {source.responsible}" if source.responsible else subsystem
    return Provenance(
        outside=f"made outside by {by}",
        inputs=(f"global tag {source.tag}, content {content}",),
        validation={"verdict": "made outside, not validated here", **checks},
    )


def keep_imported(conditions: ConditionsDB, links: Iterable[TagIov], record: Provenance, *, author: str) -> None:
    """Write down the record for those of the linked payloads that have no complete one; what theirs says stays."""
    keys = payload_keys(conditions, links)
    known = conditions.provenance(keys)
    merged = {key: _filled(known.get(key, Provenance()), record) for key in keys}
    conditions.record_provenance({key: made for key, made in merged.items() if made != known.get(key)}, author=author)


def _filled(known: Provenance, record: Provenance) -> Provenance:
    if not known.missing:
        return known
    lacking = {name: value for name, value in record if getattr(known, name) is None}
    return known.model_copy(update=lacking)


def keep(conditions: ConditionsDB, links: Iterable[TagIov], record: Provenance, *, author: str) -> None:
    """Write down one record for the payloads of all these links."""
    conditions.record_provenance(dict.fromkeys(payload_keys(conditions, links), record), author=author)


def complete(work: BucketWork, links_by_calibration: Mapping[str, Sequence[TagIov]], *, author: str) -> None:
    """Add to the records of what is about to be published what was said of it: verdict and sign-off."""
    conditions = work.workshop.conditions
    for calibration, links in links_by_calibration.items():
        keys = payload_keys(conditions, links)
        known = conditions.provenance(keys)
        said = _judgement(work.ledger, calibration)
        judged = {key: record.model_copy(update={"validation": said}) for key, record in known.items()}
        conditions.record_provenance(judged, author=author)


def approvers(ledger: BucketLedger, calibrations: Iterable[str]) -> str:
    """Who signed off the calibrations of a bucket; the gate where no sign-off was asked for."""
    decisions = (ledger.sign_off(name) for name in calibrations)
    return ", ".join(sorted({decision.author if decision else "gate:verdict" for decision in decisions}))


def payload_keys(conditions: ConditionsDB, links: Iterable[TagIov]) -> frozenset[PayloadKey]:
    """Name and MD5 of the payloads that are linked."""
    known = conditions.payloads_of({(link.name, link.revision) for link in links})
    return frozenset((payload.name, payload.md5) for payload in known.values())


def _judgement(ledger: BucketLedger, calibration: str) -> dict[str, str]:
    verdict, decision = ledger.verdict(calibration), ledger.sign_off(calibration)
    said = {"verdict": verdict.value if verdict else "not validated"}
    if decision is not None:
        said |= {"decision": decision.decision.value, "by": decision.author, "reason": decision.reason}
        said |= decision.terms
    redo = ledger.redo(calibration).in_words()
    return said | ({"redone with": redo} if redo else {})


def _payloads_of_inputs(work: BucketWork, request: CafRequest) -> tuple[PayloadKey, ...]:
    """The payloads that calibrations before this one made for the bucket, as the input tag holds them."""
    own = [tag for tag in request.database_chain if tag.startswith(input_tag_name(work.staging_tag, ""))]
    conditions = work.workshop.conditions
    links = [link for tag in own for link in links_of(conditions, tag)]
    return tuple(sorted(payload_keys(conditions, links)))
