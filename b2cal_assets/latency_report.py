"""Latencies for people: in words, as JSON, as Dagster metadata, and as a picture with a bar per bucket."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any

import dagster as dg
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from b2cal_assets.asset_metadata import Metadata, table
from b2cal_core.latency import BucketLatency, Spread, WaitsFor

SHOWN = (WaitsFor.data, WaitsFor.machine, WaitsFor.queue, WaitsFor.people, WaitsFor.platform)
"""The order in tables and bars."""
_COLOURS = {
    WaitsFor.data: "#c9c9c9",
    WaitsFor.machine: "#3572b0",
    WaitsFor.queue: "#86b0d9",
    WaitsFor.people: "#d7191c",
    WaitsFor.platform: "#f4a742",
}
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_UNITS = (
    (2 * _DAY, _DAY, "days"),
    (2 * _HOUR, _HOUR, "hours"),
    (2 * _MINUTE, _MINUTE, "minutes"),
    (0.0, 1.0, "seconds"),
)
"""From so many seconds on, the unit of so many, and its name."""
_DPI = 100
_ROW, _FRAME, _TOP = 0.2, 0.65, 0.62
"""Inches: height of a row, of what surrounds a panel, and of title and legend."""
_PANEL, _APART = 4.4, 1.75
"""Inches: width of a panel, and of what is said at the end of its bars."""
_LETTER = 0.075
"""Inches one letter of a bucket's key takes."""
_PANELS = ("from the first run processed", "from the bucket complete")


def in_words(time: timedelta) -> str:
    """A time with its two largest units, or with tenths of a second."""
    seconds = time.total_seconds()
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE):02d} s"
    if seconds < _DAY:
        return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE):02d} min"
    return f"{int(seconds // _DAY)} d {int(seconds % _DAY // _HOUR):02d} h"


def to_json(found: BucketLatency) -> dict[str, Any]:
    """All of it as JSON values; times in seconds, moments in UTC."""
    return {
        "bucket": found.bucket,
        "published": found.is_published,
        "first_run": found.first_run.isoformat(),
        "last_run": found.last_run.isoformat(),
        "closed": found.closed.isoformat(),
        "end": found.end.isoformat(),
        "from_first_run": found.from_first_run.total_seconds(),
        "from_last_run": found.from_last_run.total_seconds(),
        "from_closing": found.from_closing.total_seconds(),
        "shares": _seconds(found.shares),
        "shares_since_closing": _seconds(found.shares_since_closing),
    }


def _seconds(told: Mapping[WaitsFor, timedelta]) -> dict[str, float]:
    return {what.value: told[what].total_seconds() for what in SHOWN}


def summary(latencies: Iterable[BucketLatency]) -> dict[str, Spread]:
    """What to the spread of it over the published buckets; nothing when none is published.

    Beside the three times to the publication, these are the shares since the first run.
    """
    published = [one for one in latencies if one.is_published]
    if not published:
        return {}
    times = {
        "from first run": [one.from_first_run for one in published],
        "from last run": [one.from_last_run for one in published],
        "from closing": [one.from_closing for one in published],
    }
    parts = {what.value: [one.shares[what] for one in published] for what in SHOWN}
    return {name: Spread.of(lengths) for name, lengths in (times | parts).items()}


def latency_metadata(found: BucketLatency) -> Metadata:
    """What the asset of a published bucket shows of its way."""
    whole, since = found.shares, found.shares_since_closing
    return {
        "hours from the first run": _hours(found.from_first_run),
        "hours from the closing": _hours(found.from_closing),
        "latency": table(
            {
                "waiting for": what.value,
                "from the first run": in_words(whole[what]),
                "from the closing": in_words(since[what]),
            }
            for what in SHOWN
        ),
        "plot latency": _image(draw_latencies([found], title="Where the time of the bucket went")),
    }


def _hours(time: timedelta) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.float(round(time.total_seconds() / _HOUR, 3))


def _image(png: bytes) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(f"![latency](data:image/png;base64,{base64.b64encode(png).decode()})")


def draw_latencies(latencies: Sequence[BucketLatency], *, title: str) -> bytes:
    """A PNG with a bar per bucket, in parts by what was waited for: from its first run, and from its closing."""
    letters = max((len(one.bucket) for one in latencies), default=8)
    left, rows = 0.3 + _LETTER * letters, _ROW * max(len(latencies), 1)
    width, height = left + len(_PANELS) * (_PANEL + _APART), _TOP + rows + _FRAME
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=12, weight="bold", va="top")
    figure.legend(
        handles=[Patch(facecolor=_COLOURS[what], label=what.value) for what in SHOWN],
        loc="upper left",
        bbox_to_anchor=(0.1 / width, 1 - 0.33 / height),
        ncols=len(SHOWN),
        frameon=False,
        fontsize=8,
        borderaxespad=0,
        handlelength=1.2,
    )
    shares = [one.shares for one in latencies], [one.shares_since_closing for one in latencies]
    for number, (label, bars) in enumerate(zip(_PANELS, shares, strict=True)):
        place = (left + number * (_PANEL + _APART)) / width, 0.4 / height, _PANEL / width, rows / height
        axes = figure.add_axes(place)
        axes.set_title(label, loc="left", fontsize=9, weight="bold", pad=4)
        _draw_panel(axes, bars, is_published=[one.is_published for one in latencies])
        names = [one.bucket for one in latencies] if number == 0 else [""] * len(latencies)
        axes.set_yticks([row + 0.5 for row in range(len(latencies))], names, fontsize=8)
    FigureCanvasAgg(figure)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _draw_panel(axes: Axes, bars: Sequence[Mapping[WaitsFor, timedelta]], *, is_published: Sequence[bool]) -> None:
    totals = [sum(bar.values(), timedelta(0)) for bar in bars]
    longest = max(totals, default=timedelta(0)).total_seconds()
    unit, name = next((unit, name) for least, unit, name in _UNITS if longest >= least)
    axes.set_xlim(0, longest / unit or 1)
    axes.set_ylim(max(len(bars), 1), 0)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel(name, fontsize=8, labelpad=2)
    axes.spines[["top", "right"]].set_visible(False)
    for row, (bar, total, is_over) in enumerate(zip(bars, totals, is_published, strict=True)):
        start = 0.0
        for what in SHOWN:
            length = bar[what].total_seconds() / unit
            axes.barh(row + 0.5, length, height=0.76, left=start, color=_COLOURS[what], linewidth=0)
            start += length
        _say(axes, row, in_words(total) if is_over else f"{in_words(total)}, not published")
    if not bars:
        axes.text(0.5, 0.5, "no buckets", ha="center", va="center", fontsize=8, color="#666666")


def _say(axes: Axes, row: int, words: str) -> None:
    """At the right of the panel, where no bar reaches."""
    axes.annotate(
        words,
        xy=(1, row + 0.5),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
        color="#444444",
        annotation_clip=False,
    )
