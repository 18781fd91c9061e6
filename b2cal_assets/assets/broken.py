"""A campaign that cannot be read: one asset whose description says why, so that the others stay up."""

import dagster as dg

from b2cal_assets.asset_keys import broken_key
from b2cal_core.settings import asset_name


def broken_asset(campaign: str, error: Exception) -> dg.AssetSpec:
    """The asset that stands for the campaign."""
    return dg.AssetSpec(
        broken_key(campaign),
        description=f"This campaign cannot be shown. {error}\n\nMend that, then reload the code location.",
        group_name=asset_name(campaign),
        tags={"broken": "true"},
    )
