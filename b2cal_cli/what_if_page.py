"""The comparison of a branch as one HTML file: tables, and the plots of both sides beside each other, all inside it."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from b2cal_caf.atomic_files import write_atomically
from b2cal_cli.what_if_branching import directory_of
from b2cal_cli.what_if_comparing import Comparison
from b2cal_core.what_if import WhatIf
from resources.campaigns.files import FileCampaignStore
from resources.home import Home

_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.2em .6em;text-align:left;"
    "border-bottom:1px solid #ccc}img{max-width:48vw}.fail{color:#b00}.warn{color:#a60}"
)


def write_page(home: Home, change: WhatIf, found: Comparison) -> Path:
    """Write the page beside what else is known of the branch, and return it."""
    file = directory_of(home, change.branch) / "comparison.html"
    title = escape(f"{change.campaign} {change.bucket}: what if {change.name}")
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>",
        f"<p>{escape(_in_words(change))}</p>",
        "<h2>Constants that differ</h2>",
        *_table(_CONSTANTS, _constants(found)),
        f"<p>{found.unchanged} payloads are the same.</p><h2>Figures of merit</h2>",
        *_table(_FIGURES, _figures(found)),
        *(part for name in found.calibrations for part in _plots(home, change, name)),
    ]
    write_atomically(file, "\n".join(parts).encode())
    return file


_CONSTANTS = ("payload", "runs", "column", "entries", "changed", "old", "new", "difference", "in errors", "remark")
_FIGURES = ("calibration", "figure", "original", "verdict", "branch", "verdict")


def _in_words(change: WhatIf) -> str:
    keys = [f"{name}: {key} = {value!r}" for name, own in change.expert_config.items() for key, value in own.items()]
    release = [f"release {change.release}"] if change.release else []
    left = [f"without run {run} of experiment {exp}" for exp, run in change.excluded_runs]
    return "; ".join([*keys, *release, *left]) or "with the same settings"


def _constants(found: Comparison) -> Iterator[Sequence[str]]:
    for c in found.constants:
        numbers = (_number(value) for value in (c.old, c.new, c.difference, c.errors))
        yield c.payload, str(c.iov), c.column, str(c.entries), str(c.changed), *numbers, c.note


def _figures(found: Comparison) -> Iterator[Sequence[str]]:
    for f in found.figures:
        old, new = _number(f.old), _number(f.new)
        yield f.calibration, f.figure, old, f.old_verdict or "", new, f.new_verdict or ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"<table><tr>{''.join(f'<th>{escape(name)}' for name in columns)}"
    for row in rows:
        yield "<tr>" + "".join(f'<td class="{escape(cell)}">{escape(cell)}' for cell in row)
    yield "</table>"


def _plots(home: Home, change: WhatIf, calibration: str) -> Iterator[str]:
    store = FileCampaignStore(home)
    places = {name: home.area(store.campaign(name).site) for name in (change.campaign, change.branch)}
    sides = [place.validation(name, change.bucket, calibration=calibration) for name, place in places.items()]
    names = sorted({file.name for side in sides for file in side.glob("*.png")})
    if names:
        yield f"<h2>{escape(calibration)}: original, branch</h2>"
    for name in names:
        images = "".join(_image(side / name) for side in sides)
        yield f"<h3>{escape(name)}</h3><p>{images}</p>"


def _image(file: Path) -> str:
    if not file.is_file():
        return "<span>none</span>"
    content = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{escape(file.name)}" src="data:image/png;base64,{content}">'
