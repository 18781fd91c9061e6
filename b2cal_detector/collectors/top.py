"""Collector of TOP times against event times."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hist import Hist
from hist.axis import Regular

from b2cal_caf.calibration import Collectable, Collector, ConditionsReader
from b2cal_core.ranges import ExpRun
from b2cal_detector.event_files import read_tree


@dataclass(frozen=True, slots=True)
class TopTimeCollector(Collector):
    """Fills, once per event, the mean over its tracks of TOP time minus event time (ns): histogram ``residuals``.

    Tracks of an event share the error of the event time; their mean does not count it twice.
    """

    def collect(self, file: Path, run: ExpRun, conditions: ConditionsReader) -> Mapping[str, Collectable]:
        """The histogram of one file."""
        del run, conditions  # the residual is taken as it is; the algorithm finds the whole offset
        tracks = read_tree(file, "tracks", ("event", "top_time"))
        owner = tracks["event"]
        events = np.bincount(owner)
        times = np.bincount(owner, tracks["top_time"])[events > 0] / events[events > 0]
        histogram: Hist[Any] = Hist(Regular(1600, -20, 20, name="residual", label="TOP time - event time (ns)"))
        histogram.fill(times)
        return {"residuals": histogram}
