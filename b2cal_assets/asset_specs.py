"""What the assets of a campaign have in common: groups, owners, tags, and the edges that a gate stands on."""

from collections.abc import Iterable, Sequence

import dagster as dg

from b2cal_assets.asset_keys import Part, calibration_key, cdst_key, import_key, published_key
from b2cal_assets.campaign_plans import CampaignPlan, code_version
from b2cal_core.campaigns import Gate

_PART_OF_GATE = {Gate.verdict: Part.validation, Gate.sign_off: Part.sign_off}
_KINDS = {
    Part.collector_output: {"root"},
    Part.payloads: {"root", "conditions"},
    Part.validation: {"python", "matplotlib"},
    Part.sign_off: set[str](),
}


def _after(plan: CampaignPlan, calibrations: Iterable[str], gate: Gate) -> list[dg.AssetDep]:
    """What an asset depends on that uses the payloads of these calibrations and waits for their gate."""
    parts = (Part.payloads, _PART_OF_GATE[gate])
    return [dg.AssetDep(calibration_key(plan.name, name, part)) for name in calibrations for part in parts]


def inputs_of(plan: CampaignPlan, key: dg.AssetKey) -> tuple[dg.AssetKey, ...]:
    """The bucket's assets that must be made before the step of ``key`` starts; those of its own step are left out."""
    return tuple(dep.asset_key for dep in bucket_edges(plan, key))


def bucket_edges(plan: CampaignPlan, key: dg.AssetKey) -> list[dg.AssetDep]:
    """The edges from ``inputs_of`` to an asset; imports stand before what nothing else stands before."""
    if plan.import_of(key) is not None:
        return []
    imports = [dg.AssetDep(import_key(plan.name, name)) for name in plan.imports]
    if key == cdst_key(plan.name):
        return _after(plan, plan.raw_stage, plan.campaign.gates.cdst) or imports
    if key == published_key(plan.name):
        return _after(plan, plan.calibrations, plan.campaign.gates.publish)
    calibration = plan.calibration_of(key)
    if key.path[-1] in {Part.validation, Part.sign_off}:
        return [dg.AssetDep(calibration_key(plan.name, calibration, Part.payloads))]
    production = [dg.AssetDep(cdst_key(plan.name))] if calibration in plan.cdst_stage else []
    return [*production, *_after(plan, plan.nearest(calibration), plan.campaign.gates.downstream)] or imports


def part_spec(
    plan: CampaignPlan, calibration: str, part: Part, *, deps: Sequence[dg.AssetDep], description: str
) -> dg.AssetSpec:
    """One part of a calibration; it may stay unmade, since its gate may be shut."""
    script = plan.validation_script(calibration) if part is Part.validation else plan.script(calibration)
    return dg.AssetSpec(
        calibration_key(plan.name, calibration, part),
        deps=deps,
        description=description,
        skippable=True,
        group_name=plan.group(calibration),
        owners=plan.owners(calibration),
        kinds=_KINDS[part],
        tags=plan.asset_tags(calibration),
        code_version=None if part is Part.sign_off else code_version(script),
        metadata={"script": str(script), "release": plan.campaign.catalogue},
    )


def bucket_spec(plan: CampaignPlan, key: dg.AssetKey, *, deps: Sequence[dg.AssetDep], description: str) -> dg.AssetSpec:
    """What is made once per bucket, over all calibrations."""
    group = plan.group(key.path[-1])
    return dg.AssetSpec(key, deps=deps, description=description, skippable=True, group_name=group, owners=plan.owners())
