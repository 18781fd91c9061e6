"""What a step does that finds its gate shut: it makes nothing, fails nothing, and says why in words."""

from collections.abc import Sequence

import dagster as dg

from b2cal_assets.asset_metadata import reasons
from b2cal_core.ports import CafObserver

WAITING = "waits for"


def wait_at_gate(context: dg.AssetExecutionContext, sentences: Sequence[str], listener: CafObserver) -> None:
    """Log the reasons, and leave them as an observation on every asset of the step."""
    for sentence in sentences:
        context.log.warning("not started: %s", sentence)
        listener.log(f"not started: {sentence}")
    for key in sorted(context.selected_asset_keys):
        context.log_event(
            dg.AssetObservation(key, partition=context.partition_key, metadata={WAITING: reasons(sentences)})
        )
