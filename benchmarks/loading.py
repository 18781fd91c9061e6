"""Loading: how long the code location takes with Belle II's 27 prompt calibrations, beside the bare import of Dagster.

    python benchmarks/loading.py                  # five repeats, under a minute
    python benchmarks/loading.py --repeats 20 --out figures.json

Each load is in a new process: import, read campaign and catalogue from the home, build all assets, jobs and sensors,
and let Dagster resolve and check them. The interpreter's own start is in neither of the two.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from aims import Aim
from orchestration_apart import Taken, apart
from orchestration_report import Line, table

LOADED, PEER = "code location", "bare import of dagster"
LOAD_SECONDS = 3.0


def main() -> None:
    """Measure, print the table and the aim, and write the figures where that is wanted."""
    options = _options()
    load = os.getloadavg()[0]
    lines = list(measured(options.repeats))
    aims = list(judged(lines))
    print(table(lines), *aims, sep="\n")
    if options.out:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load": load}
        report = [line.to_json() for line in lines]
        text = json.dumps({"machine": machine, "lines": report, "aims": [aim.to_json() for aim in aims]}, indent=1)
        options.out.write_text(text + "\n")


def judged(lines: Sequence[Line]) -> Iterator[Aim]:
    """The aims that the lines tell about."""
    for line in lines:
        if line.what == LOADED:
            seconds = line.figures["seconds"]
            aim = f"median seconds of {line.repeats} loads at most {LOAD_SECONDS:g}"
            yield Aim(f"{LOADED}, {line.jobs} assets", aim, seconds, met=seconds <= LOAD_SECONDS)


def measured(repeats: int) -> Iterator[Line]:
    """The peer and the load, in turn: what disturbs the machine disturbs both."""
    with tempfile.TemporaryDirectory(prefix="b2cal-loading-") as directory:
        home = str(Path(directory) / "home")
        apart("loading", "prepare", home=home)
        apart("loading", "load", home=home)  # writes bytecode that is not there yet
        both = [(apart("loading", "bare"), apart("loading", "load", home=home)) for _ in range(repeats)]
    peers, loads = ([pair[i] for pair in both] for i in range(2))
    peer = _line(PEER, peers, {})
    yield peer
    yield _line(LOADED, loads, peer.figures)


def _line(what: str, taken: Sequence[Taken], peer: dict[str, float]) -> Line:
    figures = {
        "seconds": statistics.median(one.seconds for one in taken),
        "slowest": max(one.seconds for one in taken),
        "own CPU s": statistics.median(one.own_cpu for one in taken),
        "peak MB": statistics.median(one.peak for one in taken),
    }
    bounds = {"its seconds": "seconds", "its processor time": "own CPU s"}
    ratios = {name: figures[key] / peer[key] for name, key in bounds.items()} if peer else {}
    return Line(what, taken[-1].answer, len(taken), figures, ratios)


def prepare(home: str) -> None:
    """A home with the release and the campaign over all of it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "system"))
    from real_catalogue import prepare_campaign  # noqa: PLC0415 (only this process needs it)

    from resources.home import Home  # noqa: PLC0415 (as above)

    prepare_campaign(Home(Path(home)).create())


def bare() -> int:
    """What nobody who uses Dagster gets around; returns that it has no asset."""
    import dagster  # noqa: F401, PLC0415 (the import is what is measured)

    return 0


def load(home: str) -> int:
    """What a code server does before it answers; returns how many assets there are."""
    import dagster as dg  # noqa: PLC0415 (the import is part of what is measured)

    from b2cal_assets.definitions import build_definitions  # noqa: PLC0415 (as above)
    from resources.home import Home  # noqa: PLC0415 (as above)

    definitions = build_definitions(Home(Path(home)))
    dg.Definitions.validate_loadable(definitions)
    return len(definitions.resolve_all_asset_keys())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="loads in new processes")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
