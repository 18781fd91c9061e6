"""The conditions database: looking up all payloads of a run, and publishing, in tags of any size.

    python benchmarks/conditions.py                        # 1 M and 10 M IoVs on SQLite; about eight minutes
    python benchmarks/conditions.py --iovs 1000000 --mariadb
    python benchmarks/conditions.py --iovs 0 100000 --publish 1000 --seconds 1

Every figure stands beside what bounds it, measured in the same run, since these machines are noisy: the bare SQL on the
same table and kind of connection, and over HTTP a server that always gives the same answer.
"""

import argparse
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aims import judged
from big_tags import NAMES, BigTag, fill
from figures import Row, Subject, table
from http_load import described
from http_serving import CLIENTS, over_http
from lookups import look_ups
from publishing import publishes

from resources.conditions.embedded import EmbeddedConditionsDB

_TESTS = Path(__file__).parent.parent / "tests"


def main() -> None:
    """Measure, print the table, and write the figures where that is wanted."""
    options = _options()
    kinds = ["sqlite", *(["mariadb"] if options.mariadb else [])]
    minutes = sum(_expected(kind, iovs, options) for kind in kinds for iovs in options.iovs) / 60
    _tell(f"this takes about {max(1, round(minutes))} minutes")
    rows: list[Row] = []
    for kind in kinds:
        for iovs in options.iovs:
            rows += _measured(kind, iovs, publish=options.publish, seconds=options.seconds)
    aims = judged(rows)
    print(table(rows), *aims, sep="\n")
    if options.out:
        report = {
            "machine": _machine(),
            "rows": [row.to_json() for row in rows],
            "aims": [aim.to_json() for aim in aims],
        }
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iovs", type=_size, nargs="+", default=[1_000_000, 10_000_000], help="sizes of the tag")
    parser.add_argument("--publish", type=_size, default=10_000, help="payloads to be published, in sets of 100")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of look-up")
    parser.add_argument("--mariadb", action="store_true", help="on a MariaDB server of its own too")
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    return parser.parse_args()


def _size(text: str) -> int:
    number = int(text)
    if number < 0 or number % len(NAMES):
        raise argparse.ArgumentTypeError(f"{text} is no multiple of the {len(NAMES)} names a tag has here")
    return number


def _expected(kind: str, iovs: int, options: argparse.Namespace) -> float:
    """Seconds that a tag of one size takes, seen from experience."""
    filling, publishing = (1.2e-5, 0.005) if kind == "sqlite" else (4e-5, 0.01)
    looking = options.seconds * (4 + 2 * len(CLIENTS)) if iovs else 0
    return float(iovs * filling + looking + options.publish * publishing)


def _machine() -> dict[str, object]:
    """What a reader must know to compare; nothing that names the machine."""
    return {
        "processors": os.cpu_count(),
        "load before": os.getloadavg()[2],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "clients": described(),
    }


def _measured(kind: str, iovs: int, *, publish: int, seconds: float) -> Iterator[Row]:
    """Rows of the report about a tag of one size; a database of its own, removed afterwards."""
    subject, tag = Subject(kind, iovs), BigTag("online", iovs)
    with _scratch() as root, _database(kind, root) as url:
        conditions = EmbeddedConditionsDB(root / "conditions", url=url)
        _tell(f"{kind}, {iovs:,} IoVs: filling")
        fill(conditions, tag)
        if iovs:
            _tell(f"{kind}, {iovs:,} IoVs: looking up in process")
            yield from look_ups(conditions, tag, subject, seconds=seconds)
            _tell(f"{kind}, {iovs:,} IoVs: looking up over HTTP")
            yield from over_http(conditions, root / "conditions", tag, subject, seconds=seconds)
        if publish:
            _tell(f"{kind}, {iovs:,} IoVs: publishing {publish:,} payloads")
            yield from publishes(conditions, tag, subject, root / "files", payloads=publish)


@contextmanager
def _scratch() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="b2cal-benchmark-"))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _database(kind: str, root: Path) -> Iterator[str | None]:
    """The address of a fresh database; ``None`` for the file that is the default."""
    if kind == "sqlite":
        yield None
        return
    sys.path.insert(0, str(_TESTS))
    from servers.mariadb import MariaDBServer  # noqa: PLC0415 (needs the packages of the tests)

    server = MariaDBServer(root / "mariadb", ["--innodb-buffer-pool-size=4G", "--innodb-log-file-size=512M"])
    try:
        yield server.new_database()
    finally:
        server.stop()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
