"""When another run registry has news: its runs are brought into ours, where everything else finds them."""

import dagster as dg

from b2cal_assets.run_mirror import MirrorCursor, RunMirror
from b2cal_core.errors import BackendError, RightsError

MIRROR_SECONDS = 30.0
"""A tick has a minute; what is left when this has passed is read by the next one."""


def run_feed_sensor(
    mirror: RunMirror, *, seconds: int = 60, mirror_seconds: float = MIRROR_SECONDS
) -> dg.SensorDefinition:
    """The sensor over what brings runs over; ``seconds`` lie between ticks, ``mirror_seconds`` at most go into one."""

    @dg.sensor(
        name="run_feed",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Brings runs, and what is known of their quality, from the run registry of the detector into ours.",
    )
    def run_feed(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = MirrorCursor.from_text(context.cursor)
        try:
            done = mirror.advance(cursor, seconds=mirror_seconds)
        except BackendError as error:
            return dg.SkipReason(f"runs could not be read, which the next tick does again: {error}")
        except RightsError as error:
            return dg.SkipReason(f"runs may not be read: {error}")
        told = f"{done.runs} runs read, {done.changed} of them new or changed"
        more = "; the next tick reads on" if done.cursor.token else ""
        return dg.SensorResult(skip_reason=f"{told}{more}", cursor=done.cursor.to_text())

    return run_feed
