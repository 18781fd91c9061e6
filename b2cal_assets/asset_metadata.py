"""Values of the domain as Dagster metadata: tables, plots, links."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from b2cal_core.publishing import Operation, TagIov, UpdatePlan
from b2cal_core.tag_reports import Change, Coverage
from b2cal_core.verdicts import Figure, Threshold

Metadata = dict[str, dg.MetadataValue[Any]]
Row = Mapping[str, str | float | int | bool | None]
_MAX_PLOTS, _MAX_PLOT_BYTES = 8, 400_000
_MAX_ROWS = 500
"""Longer tables would make the page of an asset slow; the number of rows is said beside them."""


def table(rows: Iterable[Row]) -> dg.MetadataValue[Any]:
    """Rows with the same keys as a table; a word when there is none, because an empty table looks like an error."""
    records = [dict(row) for row in rows]
    if not records:
        return dg.MetadataValue.text("none")
    columns = [dg.TableColumn(name, _column_type(record[name] for record in records)) for name in records[0]]
    return dg.MetadataValue.table(
        [dg.TableRecord(record) for record in records[:_MAX_ROWS]], schema=dg.TableSchema(columns=columns)
    )


def _column_type(values: Iterable[object]) -> str:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return "bool"
    return {frozenset({int}): "int", frozenset({float}): "float"}.get(frozenset(kinds), "string")


def iov_table(links: Iterable[TagIov]) -> dg.MetadataValue[Any]:
    """The links of a tag, by name and start."""
    ordered = sorted(links, key=lambda link: (link.name, link.iov))
    return table({"payload": link.name, "revision": link.revision, **iov_columns(link)} for link in ordered)


def plan_table(plan: UpdatePlan) -> dg.MetadataValue[Any]:
    """The operations of a running update."""
    return table(
        {"operation": op.kind, "payload": op.name, "revision": op.revision, **iov_columns(op)} for op in plan.operations
    )


def diff_table(changes: Iterable[Change]) -> dg.MetadataValue[Any]:
    """In which runs readers get something else than before."""
    return table(
        {
            "payload": change.name,
            "IoV": str(change.iov),
            "revision before": change.before,
            "revision after": change.after,
            "registered runs": change.runs,
        }
        for change in changes
    )


def coverage_table(covered: Iterable[Coverage]) -> dg.MetadataValue[Any]:
    """Where each payload is valid, and what it leaves out."""
    return table(
        {
            "payload": one.name,
            "valid in": ", ".join(map(str, one.covered.iovs)) or "nothing",
            "gaps": ", ".join(map(str, one.gaps)) or "none",
            "registered runs in gaps": len(one.missing_runs),
            "overlaps": ", ".join(map(str, one.overlaps)) or "none",
        }
        for one in covered
    )


def iov_columns(link: TagIov | Operation) -> dict[str, int]:
    """The four numbers of the IoV, by name."""
    names = ("exp_low", "run_low", "exp_high", "run_high")
    return dict(zip(names, link.iov.as_tuple(), strict=True))


def figure_table(figures: Iterable[Figure]) -> dg.MetadataValue[Any]:
    """Figures of merit with their thresholds and verdicts."""
    return table(
        {
            "figure": figure.name,
            "value": round_for_people(figure.value),
            "unit": figure.unit,
            "verdict": figure.verdict.value,
            "passes within": _interval(figure.threshold.low_warn, figure.threshold.high_warn),
            "fails outside": _interval(figure.threshold.low_fail, figure.threshold.high_fail),
            "meaning": figure.description,
        }
        for figure in figures
    )


def threshold_text(threshold: Threshold) -> str:
    """The intervals of a threshold in one line."""
    passes = _interval(threshold.low_warn, threshold.high_warn)
    return f"passes within {passes}, fails outside {_interval(threshold.low_fail, threshold.high_fail)}"


def _interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "any"
    return f"{'-∞' if low is None else f'{low:g}'} … {'∞' if high is None else f'{high:g}'}"


def round_for_people(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def plots(directory: Path) -> Metadata:
    """The plots of a directory, as images of modest size; larger ones, and those beyond the first few, as paths."""
    shown: Metadata = {}
    for number, file in enumerate(sorted(directory.glob("*.png"))):
        size = file.stat().st_size
        fits = number < _MAX_PLOTS and size <= _MAX_PLOT_BYTES
        shown[f"plot {file.stem}"] = _image(file) if fits else dg.MetadataValue.path(str(file))
    return shown


def _image(file: Path) -> dg.MetadataValue[Any]:
    content = base64.b64encode(file.read_bytes()).decode()
    return dg.MetadataValue.md(f"![{file.stem}](data:image/png;base64,{content})")


def reasons(sentences: Sequence[str]) -> dg.MetadataValue[Any]:
    """Sentences as a list."""
    return dg.MetadataValue.md("\n".join(f"- {sentence}" for sentence in sentences))


def seconds(times: Mapping[str, float]) -> Metadata:
    """Wall times, one entry each."""
    return {f"seconds {name}": dg.MetadataValue.float(round(value, 3)) for name, value in times.items()}
