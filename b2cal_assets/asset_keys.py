"""How assets are called. Nothing else makes an asset key."""

from enum import StrEnum

import dagster as dg

from b2cal_core.settings import asset_name

RAW_RUNS = dg.AssetKey(["runs", "raw"])
CDST_RUNS = dg.AssetKey(["runs", "cdst"])


class Part(StrEnum):
    """What is made for each calibration and bucket, in this order."""

    collector_output = "collector_output"
    payloads = "payloads"
    validation = "validation"
    sign_off = "sign_off"


def calibration_key(campaign: str, calibration: str, part: Part) -> dg.AssetKey:
    """The key of one part of a calibration."""
    return dg.AssetKey([campaign, asset_name(calibration), part.value])


def cdst_key(campaign: str) -> dg.AssetKey:
    """The key of a campaign's cDST production."""
    return dg.AssetKey([campaign, "cdst"])


def bucket_runs_key(campaign: str) -> dg.AssetKey:
    """The key of the runs that a campaign's buckets have."""
    return dg.AssetKey([campaign, "runs"])


def import_key(campaign: str, name: str) -> dg.AssetKey:
    """The key of what a campaign imports of a subsystem's payloads; ``name`` is the import's."""
    return dg.AssetKey([campaign, name])


def offer_key(campaign: str, name: str) -> dg.AssetKey:
    """The key of what source tags have of an import for a campaign's buckets."""
    return dg.AssetKey([campaign, f"offered_{name}"])


def source_tag_key(tag: str) -> dg.AssetKey:
    """The key of a global tag that a subsystem fills."""
    return dg.AssetKey(["local", tag])


def published_key(campaign: str) -> dg.AssetKey:
    """The key of what a campaign published."""
    return dg.AssetKey([campaign, "published"])


def step_name(key: dg.AssetKey) -> str:
    """The step that makes an asset of a campaign; two parts of a calibration each are made by one step."""
    campaign, *names = key.path
    calibrates = names[-1] in {Part.collector_output, Part.payloads}
    verb = {1: "", 2: "__calibrate" if calibrates else "__judge"}[len(names)]
    return f"{campaign}__{names[0]}{verb}"


def broken_key(campaign: str) -> dg.AssetKey:
    """The key of the one asset of a campaign that cannot be read."""
    return dg.AssetKey([asset_name(campaign), "broken"])
