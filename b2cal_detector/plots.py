"""The plots of the validations, as small PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_BEFORE, _AFTER = "#b0b0b0", "#1f5fa8"
_BINS = 20, 100
"""Fewest and most."""


def _saved(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def _drawing(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 3.8), dpi=80)
    axes = figure.add_axes((0.17, 0.14, 0.80, 0.76))  # fixed, since a computed layout costs more than the drawing
    axes.set_title(title)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def plot_distributions(path: Path, values: Mapping[str, np.ndarray], *, title: str, xlabel: str) -> None:
    """Histograms over one another, the last in blue (after), others in grey (before); legends with mean and width."""
    figure, axes = _drawing(title, xlabel, "entries")
    shown = {label: v[np.isfinite(v)] for label, v in values.items()}
    everything = np.concatenate(list(shown.values()))
    bins = int(np.clip(np.sqrt(2 * everything.size), *_BINS))
    low, high = np.percentile(everything, [0.2, 99.8]) if everything.size else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1).tolist()
    for position, (label, each) in enumerate(shown.items()):
        text = f"{label}: mean {each.mean():.4g}, width {each.std():.3g}" if each.size else f"{label}: none"
        last = position == len(shown) - 1
        axes.hist(each, edges, histtype="stepfilled", alpha=0.7, color=_AFTER if last else _BEFORE, label=text)
    if len(shown) > 1:
        axes.set_yscale("log")  # what is narrow after would hide what was wide before
    axes.margins(y=0.2)
    axes.legend(fontsize="small", loc="upper left")
    _saved(figure, path)


def plot_counts(path: Path, edges: np.ndarray, counts: Mapping[str, np.ndarray], *, title: str, xlabel: str) -> None:
    """Histograms that are filled already, over one another, the first in grey, the last in blue."""
    figure, axes = _drawing(title, xlabel, "entries")
    for position, (label, values) in enumerate(counts.items()):
        axes.stairs(values, edges, fill=True, alpha=0.7, color=_AFTER if position else _BEFORE, label=label)
    axes.legend(fontsize="small")
    _saved(figure, path)


def plot_over_runs(
    path: Path,
    runs: Sequence[int],
    series: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    *,
    title: str,
    ylabel: str,
    previous: float | None = None,
) -> None:
    """Values with errors over run numbers; the value of the bucket before as a dashed line."""
    figure, axes = _drawing(title, "run", ylabel)
    for position, (label, (values, errors)) in enumerate(series.items()):
        colour = _AFTER if position == len(series) - 1 else _BEFORE
        axes.errorbar(runs, values, yerr=errors, fmt="o", markersize=4, color=colour, label=label)
    if previous is not None:
        axes.axhline(previous, linestyle="--", color="#c05020", label="before this bucket")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.2)
    axes.legend(fontsize="small", loc="upper left", ncols=3)
    _saved(figure, path)
