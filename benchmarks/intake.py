"""Run intake: how quickly runs of years are taken in, what a tick costs on top of them, and whether memory grows.

    python benchmarks/intake.py                   # 100 000 runs on SQLite, about two minutes
    python benchmarks/intake.py --mariadb         # on a MariaDB of its own too
    python benchmarks/intake.py --runs 2000 --ticks 3 --out figures.json

Cold intake is everything: the registry gets the runs, and ticks of the sensor go on until every run is a partition with
its quality on it and every bucket is booked. Beside it stands a peer that only inserts as much text for each run.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from aims import Aim
from orchestration_apart import apart
from orchestration_report import Line, table

from resources.home import Home

COLD, PEER, REGISTERED, TAKEN = "cold intake", "bare inserts", "registered", "taken in by ticks"
ASKED = "work on its buckets asked for"
RUNS_PER_SECOND, TICK_MS, GROWN_MB = 5000.0, 200.0, 10.0
_MILLI = 1000
_IN_CLEAR = "&ssl_disabled=true"
"""For a server on the same machine, as docs/production.md has it."""


def main() -> None:
    """Measure, print the table and the aims, and write the figures where that is wanted."""
    options = _options()
    minutes = options.runs / 50_000 * (3 if options.mariadb else 1)
    print(f"this takes about {max(1, round(minutes))} minutes", file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    kinds = ["SQLite", *(["MariaDB"] if options.mariadb else [])]
    lines = {kind: list(_measured(kind, options)) for kind in kinds}
    aims = [aim for kind, measured in lines.items() for aim in judged(kind, measured)]
    print(*(f"{kind}\n{table(measured)}\n" for kind, measured in lines.items()), *aims, sep="\n")
    if options.out:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load": load}
        report = {kind: [line.to_json() for line in measured] for kind, measured in lines.items()}
        text = json.dumps({"machine": machine, "parts": report, "aims": [aim.to_json() for aim in aims]}, indent=1)
        options.out.write_text(text + "\n")


def judged(kind: str, lines: Sequence[Line]) -> Iterator[Aim]:
    """The aims that the lines of one database tell about."""
    for line in lines:
        subject, figures = f"{kind}, {line.jobs:,} runs", line.figures
        if line.what == COLD:
            rate = figures["runs/s"]
            yield Aim(
                subject, f"{COLD}, runs per second at least {RUNS_PER_SECOND:,.0f}", rate, met=rate >= RUNS_PER_SECOND
            )
        elif line.what == TAKEN:
            grown = figures["grown MB"]
            yield Aim(
                subject, f"MB grown from the first tick to the last at most {GROWN_MB:g}", grown, met=grown <= GROWN_MB
            )
        elif line.what.startswith("tick, "):
            slow = figures["p95 ms"]
            yield Aim(subject, f"{line.what}, p95 in ms at most {TICK_MS:g}", slow, met=slow <= TICK_MS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000, help="runs of the cold intake")
    parser.add_argument("--ticks", type=int, default=20, help="steady ticks of each kind")
    parser.add_argument("--mariadb", action="store_true", help="on a MariaDB server of its own too")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser.parse_args()


def _measured(kind: str, options: argparse.Namespace) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="b2cal-intake-") as directory:
        home = Home(Path(directory) / "home").create()
        with _server(kind, Path(directory)) as server:
            bare = server.new_database() + _IN_CLEAR if server else f"sqlite:///{directory}/bare.db"
            _set_up(home, server.new_database() + _IN_CLEAR if server else None)
            yield from _lines(str(home.path), bare, options)


def _lines(home: str, bare: str, options: argparse.Namespace) -> Iterator[Line]:
    runs = options.runs
    peer = apart("intake_work", "bare", address=bare, runs=runs)
    added = apart("intake_work", "register", home=home, runs=runs)
    registered = added.answer
    taken = apart("intake_work", "take_in", home=home, runs=runs)
    yield _line(PEER, runs, peer.seconds, peer.own_cpu)
    yield _line(REGISTERED, runs, registered["seconds"], registered["cpu"], {"peak MB": added.peak})
    memory, ticking = taken.answer["memory"], sum(taken.answer["ticks"])
    more = {"peak MB": taken.peak, "ticks": len(taken.answer["ticks"]), "grown MB": memory[-1] - memory[0]}
    yield _line(TAKEN, runs, ticking, taken.answer["cpu"], more)
    seconds, cpu = registered["seconds"] + ticking, registered["cpu"] + taken.answer["cpu"]
    cold = _line(COLD, runs, seconds, cpu)
    yield replace(cold, bounds={PEER: seconds / peer.seconds, "its processor time": cpu / peer.own_cpu})
    asking = taken.answer["asking"]
    yield Line(ASKED, taken.answer["buckets"], 1, {"seconds": sum(asking), "ticks": len(asking)}, {})
    steady = apart(
        "intake_work", "steady", home=home, runs=runs, cursor=taken.answer["cursor"], ticks=options.ticks
    ).answer
    for what, seconds in steady["seconds"].items():
        ordered = sorted(seconds)
        slow = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
        figures = {
            "p50 ms": statistics.median(ordered) * _MILLI,
            "p95 ms": slow * _MILLI,
            "CPU ms": statistics.median(steady["cpu"][what]) * _MILLI,
            "grown MB": steady["grown"],
        }
        yield Line(f"tick, {what}", runs, len(ordered), figures, {})


def _line(what: str, runs: int, seconds: float, cpu: float, more: dict[str, float] | None = None) -> Line:
    figures = {"runs/s": runs / seconds, "seconds": seconds, "own CPU s": cpu, "runs/CPU s": runs / cpu}
    return Line(what, runs, 1, figures | (more or {}), {})


def _set_up(home: Home, database: str | None) -> None:
    home.dagster_home.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"telemetry": {"enabled": False}}
    if database is not None:
        (home.path / "deployment.yaml").write_text(yaml.safe_dump({"storage": {"database": database}}))
        settings["storage"] = {"mysql": {"mysql_url": database}}
    (home.dagster_home / "dagster.yaml").write_text(yaml.safe_dump(settings))


@contextmanager
def _server(kind: str, directory: Path) -> Iterator[Any]:
    if kind != "MariaDB":
        yield None
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers.mariadb import MariaDBServer  # noqa: PLC0415 (needs the packages of the tests)

    server = MariaDBServer(directory / "mariadb", ["--innodb-buffer-pool-size=1G", "--innodb-log-file-size=256M"])
    try:
        yield server
    finally:
        server.kill()


if __name__ == "__main__":
    main()
