"""The collector cache stays within its size, also while several processes give and keep."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from cache_workbench import keep, make_older

from b2cal_caf.cache_index import CollectorParts
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.root_files import root_damage
from b2cal_core.errors import BackendError, DataError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "request" / "calibration_results"


@pytest.fixture
def cache(tmp_path: Path) -> CollectorCache:
    return CollectorCache(tmp_path / "cache")


def here(cache: CollectorCache) -> set[str]:
    """Names of the files that lie in the cache."""
    return {file.stem for file in cache.directory.glob("*/*.root")}


def test_what_was_not_used_for_longest_goes_first(cache: CollectorCache, place: Path) -> None:
    names = []
    for key in "abcd":
        names.append(keep(cache, place, key))
        make_older(cache.directory, hours=2)
    cache.give(names[0], place / "taken")
    cleaned = cache.clean(20_000)
    assert (cleaned.outputs, cleaned.size) == (2, 20_000)
    assert here(cache) == set(names[2:])
    assert cache.find(list("abcd")) == [(names[2], ("c",)), (names[3], ("d",))]


def test_to_be_planned_with_is_to_be_used(cache: CollectorCache, place: Path) -> None:
    names = [keep(cache, place, key) for key in "ab"]
    make_older(cache.directory, hours=2)
    with closing(sqlite3.connect(cache.directory / "index.db")) as connection:
        before = connection.execute("SELECT used FROM kept WHERE output = ?", (names[0],)).fetchone()
    use(cache, place / "plan", names[0])
    with closing(sqlite3.connect(cache.directory / "index.db")) as connection:
        after = connection.execute("SELECT used FROM kept WHERE output = ?", (names[0],)).fetchone()
    assert after > before
    assert cache.clean(0).outputs == 1
    assert here(cache) == {names[0]}


def use(cache: CollectorCache, plan: Path, name: str) -> None:
    cache.remember(plan, CollectorParts("identity", "kind", "code", {}), [], used=[name])


def test_nothing_used_within_an_hour_goes_though_the_limit_is_passed(cache: CollectorCache, place: Path) -> None:
    old = keep(cache, place, "a")
    make_older(cache.directory, hours=1.1)
    young = keep(cache, place, "b")
    make_older(cache.directory, hours=0.9)
    assert cache.clean(0).outputs == 1
    assert here(cache) == {young} != {old}


def test_what_a_clean_up_would_do_is_what_it_does(cache: CollectorCache, place: Path) -> None:
    for key in "abc":
        keep(cache, place, key)
    stray = cache.directory / "ab" / "stray.root"
    stray.parent.mkdir(exist_ok=True)
    stray.touch()
    lost = keep(cache, place, "lost")
    make_older(cache.directory, hours=30)
    next(cache.directory.glob(f"*/{lost}.root")).unlink()
    for limit in (30_000, 20_000, 0):
        before = here(cache)
        would = cache.would_clean(limit)
        assert here(cache) == before
        assert cache.clean(limit) == would
    assert cache.usage().outputs == 0
    assert here(cache) == set()


def test_links_in_request_directories_keep_content_on_the_disk_and_that_is_told(
    cache: CollectorCache, place: Path
) -> None:
    keep(cache, place, "a")
    name = keep(cache, place, "b")
    (place / f"{name}.root").unlink()
    make_older(cache.directory, hours=2)
    cleaned = cache.clean(0)
    assert (cleaned.outputs, cleaned.size, cleaned.shared) == (2, 20_000, 10_000)


def test_files_without_a_row_and_rows_without_a_file_go_after_a_day(cache: CollectorCache, place: Path) -> None:
    kept = keep(cache, place, "kept")
    lost = keep(cache, place, "lost")
    next(cache.directory.glob(f"*/{lost}.root")).unlink()
    folder = cache.directory / "ab"
    folder.mkdir(exist_ok=True)
    for name in ("stray.root", ".x.root.1.2.part"):
        (folder / name).touch()
    young = cache.clean(None)
    assert (young.strays, young.lost) == (0, 0)
    make_older(cache.directory, hours=25)
    (folder / "young.root").touch()
    old = cache.clean(None)
    assert (old.outputs, old.strays, old.lost) == (0, 2, 1)
    assert here(cache) == {kept, "young"}
    assert cache.usage().outputs == 1


def test_what_went_can_be_kept_again(cache: CollectorCache, place: Path) -> None:
    keep(cache, place, "a")
    make_older(cache.directory, hours=2)
    assert cache.clean(0).outputs == 1
    assert cache.find(["a"]) == []
    name = keep(cache, place, "a")
    assert cache.find(["a"]) == [(name, ("a",))]
    assert cache.usage().outputs == 1


def test_with_a_limit_it_is_cleaned_by_itself_but_not_at_every_output(tmp_path: Path, place: Path) -> None:
    cache = CollectorCache(tmp_path / "cache", limit=10_000)
    keep(cache, place, "a")
    make_older(cache.directory, hours=2)
    keep(cache, place, "b")
    assert cache.usage().outputs == 1
    with closing(sqlite3.connect(cache.directory / "index.db")) as connection, connection:
        connection.execute("UPDATE kept SET used = used - 7200")
    keep(cache, place, "c")
    assert cache.usage().outputs == 2


def test_without_a_limit_nothing_goes_by_itself(cache: CollectorCache, place: Path) -> None:
    for key in "abc":
        keep(cache, place, key)
        make_older(cache.directory, hours=2)
    assert cache.usage().outputs == 3


def test_what_went_half_a_year_ago_is_forgotten(cache: CollectorCache, place: Path) -> None:
    keep(cache, place, "a")
    make_older(cache.directory, hours=2)
    cache.clean(0)
    make_older(cache.directory, hours=24 * 181)
    cache.clean(0)
    with closing(sqlite3.connect(cache.directory / "index.db")) as connection:
        assert connection.execute("SELECT output FROM outputs UNION SELECT output FROM kept").fetchall() == []


def test_a_cache_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no collector cache"):
        CollectorCache.existing(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_an_index_of_a_newer_version_is_left_alone(cache: CollectorCache) -> None:
    with closing(sqlite3.connect(cache.directory / "index.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(BackendError, match="newer version"):
        CollectorCache(cache.directory)


WORKER = """
import random, sys
from itertools import count
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cache_workbench import some_output
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.root_files import root_damage

cache, place, stop = CollectorCache(Path(sys.argv[2])), Path(sys.argv[3]), Path(sys.argv[4])
chance = random.Random(str(place))
for turn in count():
    if stop.exists():
        break
    key = f"key {chance.randrange(20)}"
    found = cache.find([key])
    try:
        if found:
            target = place / f"taken_{turn}.root"
            cache.give(found[0][0], target)
            assert root_damage(target) is None
            continue
    except FileNotFoundError:
        pass
    name, file = some_output(place, [key])
    cache.keep({name: (file, [key])})
"""

CLEANER = """
import sys
from pathlib import Path
from b2cal_caf.collector_cache import CollectorCache

cache, stop = CollectorCache(Path(sys.argv[1])), Path(sys.argv[2])
removed = 0
while removed < 200:
    with cache.index.write() as connection:
        connection.execute("UPDATE kept SET used = used - 7200")
    removed += cache.clean(50_000).outputs
stop.touch()
"""


def test_processes_that_give_keep_and_clean_at_once_lose_nothing_but_what_was_cleaned(
    tmp_path: Path, cache: CollectorCache
) -> None:
    """Every file given is whole; in the end the index and the files agree."""
    stop, directory = tmp_path / "stop", str(cache.directory)
    arguments = [
        *([WORKER, str(Path(__file__).parent), directory, str(tmp_path / f"r{n}"), str(stop)] for n in range(3)),
        [CLEANER, directory, str(stop)],
    ]
    processes = [subprocess.Popen([sys.executable, "-c", *rest]) for rest in arguments]
    try:
        assert [process.wait(timeout=200) for process in processes] == [0, 0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with closing(sqlite3.connect(cache.directory / "index.db")) as connection:
        rows = {name for (name,) in connection.execute("SELECT output FROM kept WHERE here")}
    assert rows == here(cache)
    assert all(root_damage(file) is None for file in cache.directory.glob("*/*.root"))
    assert cache.usage().outputs == len(rows)
