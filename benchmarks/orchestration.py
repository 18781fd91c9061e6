"""CAF execution: the cost of a sub-job, how soon the next begins, and how long a graph of calibrations takes.

    python benchmarks/orchestration.py                                # about five minutes
    python benchmarks/orchestration.py --large --htcondor             # 100 000 sub-jobs too, and 1 000 on HTCondor
    python benchmarks/orchestration.py --parts makespan --scale 0.1   # a quick look; sleeps of a tenth

Every figure stands beside its peers or its lower bound, measured in the same run, since these machines are noisy. What
is measured runs in a process of its own, so that its memory and processor time are known.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import chain as chained
from pathlib import Path

from orchestration_aims import judged
from orchestration_graphs import SLOTS, chain, graph
from orchestration_report import Line, table
from orchestration_subjobs import condor_sub_jobs, counting, sub_jobs

_SIZES, _LARGE = (100, 1000, 10_000), 100_000
_LINKS, _JOBS, _ON_CONDOR = 200, 2000, 1000
_PARTS = ("sub-jobs", "chain", "makespan")


def main() -> None:
    """Measure, print the tables and the aims, and write the figures where that is wanted."""
    options = _options()
    _tell(f"this takes about {max(1, round(_expected(options) / 60))} minutes")
    load = {"before": os.getloadavg()[0]}
    parts: dict[str, list[Line]] = {}
    for name, measure in _measures(options).items():
        _tell(f"{name}: load {os.getloadavg()[0]:.1f}")
        parts[name] = [_told(line) for line in measure()]
        load[f"after {name}"] = os.getloadavg()[0]
    aims = judged(parts)
    print(*(f"{name}\n{table(lines)}\n" for name, lines in parts.items()), *aims, sep="\n")
    if options.out:
        report = {
            "machine": {**_machine(), "load": load},
            "parts": {name: [line.to_json() for line in lines] for name, lines in parts.items()},
            "aims": [aim.to_json() for aim in aims],
        }
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=_PARTS, default=_PARTS, help="what to measure; all by default")
    parser.add_argument("--jobs", type=int, nargs="+", default=_SIZES, help="numbers of sub-jobs that do nothing")
    parser.add_argument("--large", action="store_true", help=f"{_LARGE:,} of them too; takes 3 GB of disk for a while")
    parser.add_argument(
        "--htcondor",
        type=int,
        nargs="?",
        const=_ON_CONDOR,
        help="sub-jobs on an HTCondor pool of its own, 1 000 unless told",
    )
    parser.add_argument("--places", type=int, default=os.cpu_count() or 1, help="sub-jobs and peers at a time")
    parser.add_argument("--repeats", type=int, default=3, help="times that less than 5 000 sub-jobs are measured")
    parser.add_argument("--links", type=int, default=_LINKS, help="calibrations in the chain")
    parser.add_argument("--sleeping", type=int, default=_JOBS, help=f"sub-jobs of the graph, on {SLOTS} slots")
    parser.add_argument("--scale", type=float, default=1.0, help="times the seconds that these sleep, 1 to 5")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser.parse_args()


def _measures(options: argparse.Namespace) -> dict[str, Callable[[], Iterable[Line]]]:
    sizes = _sizes(options)
    measures: dict[str, Callable[[], Iterable[Line]]] = {
        "sub-jobs": lambda: chained([counting()], *(sub_jobs(jobs, options.places, options.repeats) for jobs in sizes)),
        "HTCondor": lambda: condor_sub_jobs(options.htcondor),
        "chain": lambda: chain(options.links, options.places),
        "makespan": lambda: [graph(options.sleeping, options.scale)],
    }
    wanted = {*options.parts, *(["HTCondor"] if options.htcondor else [])}
    return {name: measure for name, measure in measures.items() if name in wanted}


def _sizes(options: argparse.Namespace) -> list[int]:
    return sorted({*options.jobs, *([_LARGE] if options.large else [])})


def _expected(options: argparse.Namespace) -> float:
    """Seconds, seen from experience; peers, repetitions and clearing up are part of a sub-job's."""
    seconds = {
        "sub-jobs": sum(jobs * (0.1 if jobs < _SIZES[-1] else 0.01) for jobs in _sizes(options)),
        "HTCondor": (options.htcondor or 0) * 1.5,
        "chain": options.links * 0.1,
        "makespan": options.sleeping / SLOTS * 3.5 * options.scale + 10,
    }
    return float(sum(seconds[name] for name in _measures(options)))


def _machine() -> dict[str, object]:
    """What a reader must know to compare; nothing that names the machine."""
    return {"processors": os.cpu_count(), "python": platform.python_version(), "luigi": version("luigi")}


def _told(line: Line) -> Line:
    """Show a line as soon as it is there, since the next may take minutes."""
    _tell(f"  {line.what}, {line.jobs:,}: {', '.join(f'{name} {value:.2f}' for name, value in line.figures.items())}")
    return line


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
