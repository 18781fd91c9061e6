"""What is affected when a constant changes: the answer over a tag with millions of payloads, beside a bare SQL scan.

    python benchmarks/impact.py                    # 3 M payloads on SQLite, about five minutes
    python benchmarks/impact.py --iovs 100000 --seconds 2 --out figures.json

The first question ever reads the whole tag; one after a publish of 100 payloads reads what is new.

The tag has 100 names, made by 25 calibrations of which each depends on up to three before it, in a home as an
installation has it. A question reads everything anew, as a command does. The peer is one statement on the same table
that only counts, per name, the payloads valid in the runs asked for: it knows nothing of dependencies.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from aims import Aim
from big_tags import NAMES, BigTag, fill
from figures import Row, Subject, Times, in_turn, table

from b2cal_core.impact import Impact
from b2cal_core.payloads import LocalPayload, Release, TagState
from b2cal_core.provenance import Provenance
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import Catalogue
from resources.campaigns.files import FileCampaignStore
from resources.conditions import schema
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher
from resources.home import Home
from resources.impact.opened import open_search

AIM_SECONDS = 2.0
PEER = "bare SQL scan"
_TAG, _MILLI, _NAMES_EACH, _NEEDS, _TIMES = "data", 1000, 4, 3, 5
EVERYTHING, ONE_RUN = IoV(0, 0, -1, -1), IoV(1, 7, 1, 7)
_CAMPAIGN = f"name: prompt\ncatalogue: r1\nbase_tags: [main]\ntarget_tag: {_TAG}\n"


def main() -> None:
    """Measure, print the table and the aim, and write the figures where that is wanted."""
    options = _options()
    print(f"this takes about {1 + options.iovs // 700_000} minutes", file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        rows = _measured(Path(directory), options.iovs, options.seconds)
    worst = max(row.median_ms for row in rows if row.what.startswith("question"))
    aim = Aim(
        f"{options.iovs:,} payloads",
        f"what is affected, in seconds at most {AIM_SECONDS:g}",
        worst / _MILLI,
        met=worst <= AIM_SECONDS * _MILLI,
    )
    print(table(rows), aim, sep="\n")
    if options.out:
        machine = {"processors": os.cpu_count(), "python": platform.python_version(), "load": load}
        report = {"machine": machine, "rows": [row.to_json() for row in rows], "aims": [aim.to_json()]}
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iovs", type=int, default=3_000_000, help="payloads in the tag, a multiple of 100")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each kind of question")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser.parse_args()


def _measured(directory: Path, iovs: int, seconds: float) -> list[Row]:
    home, tag = Home(directory / "home").create(), BigTag(_TAG, iovs)
    conditions = EmbeddedConditionsDB(home.conditions_dir)
    fill(conditions, tag)
    ask = _questions(home, conditions, directory / "scripts")
    subject = Subject("sqlite", iovs)
    first = _once(lambda: ask(EVERYTHING))
    rows = [subject.row("first question, tables derived", first, each=iovs)]
    for what, iov in {"question, all runs": EVERYTHING, "question, one run": ONE_RUN}.items():
        found, counted = in_turn([lambda iov=iov: ask(iov), lambda iov=iov: _scan(conditions, iov)], seconds)  # type: ignore[misc]
        rows.append(subject.row(what, found, {PEER: counted}, each=_affected(ask(iov))))
        cpu = _cpu(lambda iov=iov: ask(iov))  # type: ignore[misc]
        rows.append(subject.row(f"  processor time of a {what}", cpu, each=_affected(ask(iov))))
    untouched = (_NAMES_EACH - 1) * tag.runs  # what the first calibration makes besides the name that changes
    assert _affected(ask(EVERYTHING)) == iovs - untouched
    rows.append(subject.row("question after a publish", _after_publishes(conditions, tag, ask), each=iovs))
    command = [sys.executable, "-m", "b2cal_cli", "impact", "show", NAMES[0], "--json", "--home", str(home.path)]
    (asked,) = in_turn([lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)], seconds)
    return [*rows, subject.row("question by the command line, all runs", asked, each=iovs)]


def _questions(home: Home, conditions: EmbeddedConditionsDB, scripts: Path) -> Callable[[IoV], Impact]:
    scripts.mkdir()
    store = FileCampaignStore(home)
    store.save_catalogue("r1", _catalogue(), scripts=scripts)
    store.save_campaign(_CAMPAIGN)

    def ask(iov: IoV) -> Impact:
        return open_search(home, store, conditions, left_out=sys.exit).ask(NAMES[0], iov)

    return ask


def _catalogue() -> Catalogue:
    """Calibrations of which each needs up to three before it, the first one directly or not."""
    count = len(NAMES) // _NAMES_EACH
    return Catalogue.from_json(
        {
            f"caf_{place:02d}": {
                "name": f"Calibration {place:02d}",
                "input_data_formats": ["raw"],
                "input_data_names": ["hadron_calib"],
                "depends_on": [f"Calibration {place // share:02d}" for share in range(2, 2 + _NEEDS)] if place else [],
                "produced_payloads": NAMES[place * _NAMES_EACH : (place + 1) * _NAMES_EACH],
            }
            for place in range(count)
        }
    )


def _affected(found: Impact) -> int:
    return sum(line.cells for line in found.payloads)


def _scan(conditions: EmbeddedConditionsDB, iov: IoV) -> None:
    start, stop = schema.edges(iov)
    query = (
        "SELECT name_id, COUNT(*), MIN(start), MAX(stop) FROM cdb_iovs WHERE tag_id = 1 AND start < ? AND stop > ?"
        " GROUP BY name_id"
    )
    with closing(conditions.engine.raw_connection()) as connection:
        found = connection.cursor().execute(query, (stop, start)).fetchall()
    assert len(found) == len(NAMES), f"{len(found)} names in {iov}"


def _after_publishes(conditions: EmbeddedConditionsDB, tag: BigTag, ask: Callable[[IoV], Impact]) -> Times:
    """Times of questions, each right after a publish of a payload for every name."""
    taken: list[float] = []
    for number in range(_TIMES):
        _publish(conditions, tag.run(tag.runs + number), f"staging_{number}")
        taken += _once(lambda: ask(EVERYTHING)).seconds
    return Times(tuple(taken), sum(taken))


def _cpu(call: Callable[[], object]) -> Times:
    """Seconds of a processor: what others do on the machine makes no difference to them."""
    taken = []
    for _ in range(_TIMES):
        before = time.process_time()
        call()
        taken.append(time.process_time() - before)
    return Times(tuple(taken), sum(taken))


def _publish(conditions: EmbeddedConditionsDB, run: ExpRun, staging: str) -> None:
    conditions.create_tag(staging)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "payload"
        file.write_text(staging)
        local = [LocalPayload(name, file, IoV.since(run)) for name in NAMES]
        conditions.replace_iovs(staging, NAMES, local)
        (payload, *_) = conditions.put_payloads([(name, file) for name in NAMES])
    made = Provenance(code="r1", inputs=("x",), runs=(run.edge,), tags=(), upstream=(), config={}, validation={"v": 1})
    conditions.record_provenance(dict.fromkeys(((name, payload.md5) for name in NAMES), made), author="anna")
    for before, after in pairwise((TagState.OPEN, TagState.TESTING, TagState.VALIDATED)):
        conditions.set_state(staging, expected=before, new=after)
    publisher = Publisher(conditions)
    publisher.apply(publisher.plan_update(_TAG, staging, first_run=run), Release("anna", "bert", "benchmark"))


def _once(call: Callable[[], object]) -> Times:
    before = time.perf_counter()
    call()
    taken = time.perf_counter() - before
    return Times((taken,), taken)


if __name__ == "__main__":
    main()
