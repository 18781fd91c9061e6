"""Fits of peaks in histograms."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hist import Hist
from iminuit import Minuit
from iminuit.cost import BinnedNLL
from scipy.special import ndtr


@dataclass(frozen=True, slots=True)
class Peak:
    """A Gaussian peak over a flat background: position and width with errors, and whether the fit is to be trusted."""

    position: float
    position_err: float
    width: float
    width_err: float
    valid: bool


def fit_peak(histogram: Hist[Any], window: float) -> Peak:
    """Fit the highest peak of a one-dimensional histogram within ``window`` of the median entry to either side."""
    counts, edges = histogram.values(), histogram.axes[0].edges
    middle = float(np.interp(0.5 * counts.sum(), np.cumsum(counts), edges[1:]))
    low, high = np.searchsorted(edges, [middle - window, middle + window])
    counts, edges = counts[low:high], edges[low : high + 1]
    centres = 0.5 * (edges[1:] + edges[:-1])
    start = float(np.average(centres, weights=counts))
    spread = float(np.sqrt(np.average((centres - start) ** 2, weights=counts)))

    def shape(edge: np.ndarray, position: float, width: float, flat: float) -> np.ndarray:
        inside = ndtr((edges[-1] - position) / width) - ndtr((edges[0] - position) / width)
        gauss = (ndtr((edge - position) / width) - ndtr((edges[0] - position) / width)) / inside
        below: np.ndarray = (1 - flat) * gauss + flat * (edge - edges[0]) / (edges[-1] - edges[0])
        return below

    fit = Minuit(BinnedNLL(counts, edges, shape), position=start, width=spread, flat=0.01)
    fit.limits["width"] = (0.2 * (edges[1] - edges[0]), edges[-1] - edges[0])
    fit.limits["flat"] = (0, 1)
    fit.migrad()
    fit.hesse()
    values, errors = fit.values, fit.errors
    return Peak(values["position"], errors["position"], values["width"], errors["width"], bool(fit.valid))
