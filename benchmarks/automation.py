"""Automation: what it costs to ask what may start, by our sensor of gates and by a condition on every asset.

    python benchmarks/automation.py                              # 10 and 50 buckets, some minutes
    python benchmarks/automation.py --buckets 10 --ticks 2 --out figures.json

The campaign has Belle II's 27 prompt calibrations, 110 assets for each bucket. Of so many buckets as are written,
four in five, forty at most, have their raw stage made and wait for its sign-offs; the others are finished. Both are
asked over the same records, in processes of their own: when the buckets have come, again when nothing has happened,
and after the sign-offs of one of them. How many Dagster runs either way needs for one bucket is counted, too.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aims import Aim
from orchestration_apart import Taken, apart
from orchestration_report import Line, table

SENSOR, CONDITIONS = "gates sensor", "conditions"
KINDS = {SENSOR: "gates", CONDITIONS: "conditions"}
WAITING_SHARE, MOST_WAITING = 0.8, 40
SECONDS_BETWEEN, SHARE = 5.0, 0.02
"""How often the daemon asks, and the share of a processor that may take while nothing happens."""


def main() -> None:
    """Measure, print the tables and the aim, and write the figures where that is wanted."""
    options = _options()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="b2cal-automation-") as directory:
        base = Path(directory) / "base"
        apart("loading", "prepare", home=str(base))
        lines = [line for buckets in options.buckets for line in measured(base, buckets, options.ticks)]
        counted = list(counted_runs(base)) if options.count else []
    aims = list(judged(lines))
    print(f"load {load:.1f}", table(lines), *([table(counted)] if counted else []), *aims, sep="\n")
    if options.out:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load": load}
        report = [line.to_json() for line in (*lines, *counted)]
        text = json.dumps({"machine": machine, "lines": report, "aims": [aim.to_json() for aim in aims]}, indent=1)
        options.out.write_text(text + "\n")


def judged(lines: Sequence[Line]) -> Iterator[Aim]:
    """The aim that the lines of the sensor without news tell about."""
    for line in lines:
        if line.what == f"{SENSOR}, nothing happened":
            share = line.figures["CPU s"] / SECONDS_BETWEEN
            aim = f"share of a processor at a tick every {SECONDS_BETWEEN:g} s at most {SHARE:.0%}, in percent"
            yield Aim(f"{line.what}, {line.jobs} buckets", aim, 100 * share, met=share <= SHARE)


def measured(base: Path, buckets: int, ticks: int) -> Iterator[Line]:
    """The lines about so many buckets."""
    peer: Mapping[str, Line] = {}
    for kind in (SENSOR, CONDITIONS):
        own = {line.what.partition(", ")[2]: line for line in _lines(kind, _taken(base, kind, buckets, ticks), buckets)}
        for what, line in own.items():
            ratio = {SENSOR: line.figures["CPU s"] / peer[what].figures["CPU s"]} if peer else {}
            yield Line(line.what, buckets, line.repeats, line.figures, ratio)
        peer = own


def _taken(base: Path, kind: str, buckets: int, ticks: int) -> Taken:
    home = base.with_name("home")
    shutil.copytree(base, home)
    try:
        waiting = min(MOST_WAITING, round(WAITING_SHARE * buckets))
        return apart("automation_work", KINDS[kind], home=str(home), buckets=buckets, waiting=waiting, ticks=ticks)
    finally:
        shutil.rmtree(home)


def _lines(kind: str, taken: Taken, buckets: int) -> Iterator[Line]:
    answer: Mapping[str, Any] = taken.answer
    for what, ticks in (
        ("the buckets have come", [answer["first"]]),
        ("nothing happened", answer["steady"]),
        ("one was signed off", [answer["after"]]),
    ):
        figures = {
            "seconds": statistics.median(tick["seconds"] for tick in ticks),
            "CPU s": statistics.median(tick["cpu"] for tick in ticks),
            "Dagster runs": statistics.median(tick["runs"] for tick in ticks),
            "peak MB": taken.peak,
        }
        yield Line(f"{kind}, {what}", buckets, len(ticks), figures, {})


def counted_runs(base: Path) -> Iterator[Line]:
    """How many Dagster runs a bucket takes that nobody has to decide over."""
    home = base.with_name("one")
    shutil.copytree(base, home)
    answer = apart("automation_work", "runs_of_a_bucket", home=str(home)).answer
    yield Line("sensors, one whole bucket", 1, 1, {"Dagster runs": answer["sensor"]}, {})
    ratio = {"sensors": answer["conditions"] / answer["sensor"]}
    figures = {"Dagster runs": answer["conditions"], "CPU s of the ticks": answer["cpu"]}
    yield Line("conditions, one whole bucket", 1, 1, figures, ratio)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--buckets", type=int, nargs="+", default=[10, 50], help="how many buckets there are")
    parser.add_argument("--ticks", type=int, default=3, help="ticks while nothing happens")
    parser.add_argument("--count", action=argparse.BooleanOptionalAction, default=True, help="the runs of one bucket")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
