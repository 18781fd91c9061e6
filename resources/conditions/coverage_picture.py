"""The coverage map: which payload names have constants in which runs, as a PNG or SVG, before and after a plan."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator

from b2cal_caf.atomic_files import write_atomically
from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.tag_reports import Coverage

_COVERED, _GAP, _OVERLAP, _UNASKED = "#86b0d9", "#d7191c", "#1a1a1a", "#f3f3f3"
_LATER = "#3572b0"
_LEGEND = {
    _COVERED: "has a payload",
    _GAP: "gap: no payload",
    _OVERLAP: "overlap: two payloads",
    _UNASKED: "nothing, nor asked for",
}
_DPI = 100
_ROW, _FRAME, _TOP = 0.17, 0.62, 0.72
"""Inches: height of a row, of what surrounds a panel, and of title and legend."""
_WIDTHS = 4.5, 16.0
"""Fewest and most inches for the runs; in between, each run gets two pixels or more."""
_VERDICTS = 3.2
"""Inches for what is said at the end of a row."""
_LETTER = 0.075
"""Inches one letter of a name takes."""
_APART = 0.55
"""Inches between run numbers along the axis."""
_THINNEST = 2.5
"""Pixels; a gap of one run among thousands is drawn at least as wide as that."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """The runs along the picture, in order; position ``i`` reaches from ``i`` to ``i + 1``."""

    runs: tuple[ExpRun, ...]
    taken: bool

    def span(self, iov: IoV) -> tuple[int, int]:
        """The positions of the first run of an IoV and of the first after it."""
        first, stop = (bisect_left(self.runs, edge, key=lambda run: run.edge) for edge in (iov.start, iov.stop))
        return first, stop

    def spans(self, iovs: Iterable[IoV]) -> list[tuple[int, int]]:
        """The spans of the IoVs that hold a run."""
        return [(first, stop) for first, stop in map(self.span, iovs) if first < stop]


def draw_coverage(
    before: Sequence[Coverage] | None,
    after: Sequence[Coverage],
    *,
    runs: Iterable[ExpRun],
    file: Path,
    title: str = "Coverage",
) -> None:
    """Draw a row per payload name over the runs; two panels when there is a before.

    Args:
        before: what a tag covers before a plan, or ``None`` for one panel only.
        after: what it covers after the plan, or at all.
        runs: runs that were taken; when there are none, the places where coverage changes stand for them.
        file: gets the picture, whole or not at all.
        title: above the picture.

    Raises:
        ConfigurationError: the file is to be neither ``.png`` nor ``.svg``.
    """
    kind = file.suffix.lower()
    if kind not in {".png", ".svg"}:
        raise ConfigurationError(f"a coverage map is a .png or a .svg file, not {file.name}; choose one of them")
    panels = {"": after} if before is None else {"before": before, "after": after}
    names = sorted({report.name for reports in panels.values() for report in reports})
    axis = _axis_of(runs, [report for reports in panels.values() for report in reports])
    figure = _drawn(panels, names, axis, title)
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, format=kind[1:], metadata={"Date": None} if kind == ".svg" else {})
    write_atomically(file, picture.getvalue())


def _axis_of(runs: Iterable[ExpRun], reports: Sequence[Coverage]) -> _Axis:
    taken = tuple(sorted(set(runs)))
    if taken:
        return _Axis(taken, taken=True)
    iovs = [iov for report in reports for iov in (*report.covered.iovs, *report.gaps, *report.overlaps)]
    edges = {iov.start for iov in iovs} | {iov.stop for iov in iovs if not iov.is_open}
    return _Axis(tuple(ExpRun(*edge) for edge in sorted(edges)), taken=False)


def _drawn(panels: dict[str, Sequence[Coverage]], names: Sequence[str], axis: _Axis, title: str) -> Figure:
    left = 0.3 + _LETTER * max((len(name) for name in names), default=8)
    runs_width = min(max(2.5 * len(axis.runs) / _DPI, _WIDTHS[0]), _WIDTHS[1])
    width = left + runs_width + _VERDICTS
    rows = _ROW * max(len(names), 1)
    height = _TOP + len(panels) * (rows + _FRAME)
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=12, weight="bold", va="top")
    figure.legend(
        handles=_legend_of(panels),
        loc="upper left",
        bbox_to_anchor=(0.1 / width, 1 - 0.33 / height),
        ncols=len(_LEGEND) + 2,
        frameon=False,
        fontsize=8,
        borderaxespad=0,
        handlelength=1.2,
    )
    changed = _changed(panels)
    for position, (label, reports) in enumerate(panels.items()):
        bottom = height - _TOP - (position + 1) * (rows + _FRAME) + 0.36
        axes = figure.add_axes((left / width, bottom / height, runs_width / width, rows / height))
        _draw_panel(axes, {report.name: report for report in reports}, names, axis=axis, label=label)
        for text in axes.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() in changed else "normal")
    return figure


def _legend_of(panels: dict[str, Sequence[Coverage]]) -> list[Artist]:
    handles: list[Artist] = [
        Patch(facecolor=colour, edgecolor="#999999", label=text) for colour, text in _LEGEND.items()
    ]
    handles.append(Line2D([], [], color=_LATER, linewidth=2, marker=">", markersize=5, label="all later runs too"))
    if len(panels) > 1:
        handles.append(Line2D([], [], linewidth=0, label=r"$\bf{bold}$: coverage changes"))
    return handles


def _changed(panels: dict[str, Sequence[Coverage]]) -> set[str]:
    """The names of which the panels do not tell the same."""
    told = [{report.name: report for report in reports} for reports in panels.values()]
    return {name for name in told[0].keys() | told[-1].keys() if told[0].get(name) != told[-1].get(name)}


def _draw_panel(axes: Axes, reports: dict[str, Coverage], names: Sequence[str], *, axis: _Axis, label: str) -> None:
    axes.set_xlim(0, max(len(axis.runs), 1))
    axes.set_ylim(max(len(names), 1), 0)
    axes.set_facecolor(_UNASKED)
    for row, name in enumerate(names):
        if name in reports:
            _draw_row(axes, row, reports[name], axis)
    if not names:
        axes.text(0.5, 0.5, "no payloads", ha="center", va="center", fontsize=8, color="#666666")
    axes.set_yticks([row + 0.5 for row in range(len(names))], names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.hlines(range(1, len(names)), 0, len(axis.runs), color="white", linewidth=1.5)
    _mark_experiments(axes, axis)
    axes.set_title(label, loc="left", fontsize=10, weight="bold", pad=14)


def _draw_row(axes: Axes, row: int, report: Coverage, axis: _Axis) -> None:
    for iovs, colour in ((report.covered.iovs, _COVERED), (report.gaps, _GAP), (report.overlaps, _OVERLAP)):
        bars = [(first, stop - first) for first, stop in axis.spans(iovs)]
        # The edge keeps a short bar visible; it is left off where it would spill over long neighbours.
        edge = 0 if colour == _COVERED else _THINNEST * 72 / _DPI
        axes.broken_barh(bars, (row + 0.08, 0.84), color=colour, linewidth=edge)
    _say_end(axes, row, report)
    words = []
    if missing := len(report.missing_runs) if axis.taken else len(axis.spans(report.gaps)):
        words.append((f"{missing} {_runs(missing, axis)} missing", _GAP))
    if doubled := sum(stop - first for first, stop in axis.spans(report.overlaps)):
        words.append((f"{doubled} {_runs(doubled, axis)} double", _OVERLAP))
    for position, (text, colour) in enumerate(words):
        _beside(axes, row, text, points=84 + 80 * position, colour=colour, weight="bold")


def _runs(count: int, axis: _Axis) -> str:
    word = "run" if axis.taken else "range"
    return word if count == 1 else f"{word}s"


def _say_end(axes: Axes, row: int, report: Coverage) -> None:
    """An arrow when the constants last for ever, else where they end."""
    if report.is_open:
        axes.annotate(
            "",
            xy=(1, row + 0.5),
            xycoords=("axes fraction", "data"),
            xytext=(26, 0),
            textcoords="offset points",
            arrowprops={"arrowstyle": "<|-", "color": _LATER, "linewidth": 2, "shrinkA": 0, "shrinkB": 1},
            annotation_clip=False,
        )
    elif report.covered.iovs:
        last = report.covered.iovs[-1]
        end = f"exp {last.exp_high} run {last.run_high}" if last.run_high >= 0 else f"end of exp {last.exp_high}"
        _beside(axes, row, f"to {end}", points=4, colour="#666666")
    else:
        _beside(axes, row, "nothing", points=4, colour="#666666")


def _beside(axes: Axes, row: int, text: str, *, points: float, colour: str, weight: str = "normal") -> None:
    axes.annotate(
        text,
        xy=(1, row + 0.5),
        xycoords=("axes fraction", "data"),
        xytext=(points, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color=colour,
        weight=weight,
        annotation_clip=False,
    )


def _mark_experiments(axes: Axes, axis: _Axis) -> None:
    """Lines between experiments, their numbers above, and some run numbers below."""
    inches = axes.bbox.width / _DPI / max(len(axis.runs), 1)
    ticks: list[int] = []
    first = 0
    places: list[tuple[int, int, int]] = []
    for exp, group in groupby(axis.runs, key=lambda run: run.exp):
        count = len(list(group))
        places.append((exp, first, first + count))
        if first:
            axes.axvline(first, color="#444444", linewidth=1)
        step = max(1, round(_APART / inches))
        ticks += [
            at for at in range(first, first + count, step) if not ticks or (at - ticks[-1]) * inches >= _APART / 2
        ]
        first += count
    for text, middle in _labels(places, _APART / inches):
        axes.annotate(
            text,
            xy=(middle, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color="#444444",
        )
    axes.xaxis.set_major_locator(FixedLocator([tick + 0.5 for tick in ticks]))
    axes.set_xticklabels([str(axis.runs[tick].run) for tick in ticks], fontsize=7)
    axes.set_xlabel("run" if axis.taken else "run from which coverage changes", fontsize=8, labelpad=2)


def _labels(places: Iterable[tuple[int, int, int]], enough: float) -> list[tuple[str, float]]:
    """What to write above the middle of each experiment; neighbours too narrow for it are named together."""
    labels: list[tuple[str, float]] = []
    for narrow, group in groupby(places, key=lambda place: place[2] - place[1] < enough):
        some = list(group)
        if narrow:
            numbers = f"{some[0][0]}" if len(some) == 1 else f"{some[0][0]} to {some[-1][0]}"
            labels.append((numbers, (some[0][1] + some[-1][2]) / 2))
        else:
            labels += [(f"exp {exp}", (first + stop) / 2) for exp, first, stop in some]
    return labels
