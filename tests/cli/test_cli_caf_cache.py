"""``b2cal caf why`` and ``b2cal caf cache``."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import uproot
from cli_answers import CommandLine

from resources.home import Home

SCRIPT = Path(__file__).parents[1] / "caf" / "synthetic" / "caf_synthetic.py"
Collect = Callable[..., Path]


@pytest.fixture
def collect(b2cal: CommandLine, tmp_path: Path) -> Collect:
    """Runs the synthetic script over a file for each run; all requests share the cache of the first, in ``one``."""

    def run(name: str, runs: int, **config: object) -> Path:
        for number in range(1, runs + 1):
            file = tmp_path / f"data/r{number}/file.root"
            if not file.exists():
                file.parent.mkdir(parents=True)
                with uproot.recreate(file) as root:
                    root.mktree("tree", {"x": np.dtype("f8")}).extend({"x": np.arange(5.0)})
        asked = {"caf_script": str(SCRIPT), "database_chain": [], "requested_iov": [7, 1, 7, 99]}
        inputs = {"beam": [[str(tmp_path / f"data/r{number}"), [7, number]] for number in range(1, runs + 1)]}
        workdir = tmp_path / name
        workdir.mkdir()
        if name != "one":
            (workdir / "cache").symlink_to(tmp_path / "one" / "cache")
        (tmp_path / "caf_config.json").write_text(json.dumps({**asked, "expert_config": config}))
        (tmp_path / "input_data.json").write_text(json.dumps(inputs))
        files = (tmp_path / "caf_config.json", tmp_path / "input_data.json")
        b2cal.ok("caf", "run", *files, "--workdir", workdir, "--max-processes", 1)
        return workdir

    return run


def grow_old(cache: Path) -> None:
    with closing(sqlite3.connect(cache / "index.db")) as connection, connection:
        connection.execute("UPDATE kept SET used = used - 7200")


def test_hits_and_misses_are_explained_in_one_line_each(b2cal: CommandLine, collect: Collect) -> None:
    one, two = collect("one", 3), collect("two", 5)
    miss, hit = sorted(b2cal.ok("caf", "why", two, "--json").json, key=lambda line: line["hit"])
    assert (hit["files"], hit["sentence"]) == (3, f"in the cache, collected by {one}")
    assert (miss["files"], miss["subjobs"], miss["why"]) == (2, 2, "new")
    assert miss["example"].endswith("r4/file.root")
    text = b2cal.ok("caf", "why", two).out
    assert "first/0/default" in text
    assert "not planned before with collector caf_synthetic.py:Counter" in text


def test_every_file_is_listed_when_asked_for(b2cal: CommandLine, collect: Collect) -> None:
    collect("one", 2)
    two = collect("two", 2, collector={"scale": 2.0})
    rows = b2cal.ok("caf", "why", two, "--files", "--json").json
    assert [(row["subjob"], row["exp"], row["run"], row["hit"]) for row in rows] == [
        (0, 7, 1, False),
        (1, 7, 2, False),
    ]
    assert rows[0]["changes"] == [{"aspect": "configuration", "name": "scale", "before": "1.0", "after": "2.0"}]
    assert "the collector's configuration changed: scale 1.0 → 2.0" in b2cal.ok("caf", "why", two, "--files").out


def test_what_is_asked_for_must_be_there(b2cal: CommandLine, collect: Collect, tmp_path: Path) -> None:
    assert "is it the working directory of a CAF request" in b2cal("caf", "why", tmp_path).err
    one = collect("one", 1)
    b2cal.ok("caf", "why", one, "--calibration", "first", "--collection", "default", "--iteration", 0)
    answer = b2cal("caf", "why", one, "--calibration", "second")
    assert (answer.code, "there is first" in answer.err) == (2, True)
    (one / "cache").rename(tmp_path / "elsewhere")
    assert b2cal("caf", "why", one).code == 2
    b2cal.ok("caf", "why", one, "--cache", tmp_path / "elsewhere")


def test_a_cache_that_is_gone_is_told(b2cal: CommandLine, collect: Collect, home: Home, tmp_path: Path) -> None:
    one = collect("one", 1)
    (one / "cache").rename(tmp_path / "elsewhere")
    home.create()
    answer = b2cal("caf", "why", one)
    assert answer.code == 1
    assert f"there is no collector cache in {home.cache}" in answer.err


def test_the_cache_is_shown_and_cleaned_to_the_limit_named(b2cal: CommandLine, collect: Collect) -> None:
    cache = collect("one", 3) / "cache"
    shown = b2cal.ok("caf", "cache", "--cache", cache, "--json").json
    assert (shown["outputs"], shown["limit_bytes"], shown["would_clean"]["outputs"]) == (3, None, 0)
    assert shown["bytes"] == sum(file.stat().st_size for file in cache.glob("*/*.root"))
    young = b2cal.ok("caf", "cache", "--cache", cache, "--clean", "--limit", 0, "--json").json
    assert young["cleaned"]["outputs"] == 0
    grow_old(cache)
    assert "a clean-up now would remove 3 outputs" in b2cal.ok("caf", "cache", "--cache", cache, "--limit", 0).out
    text = b2cal.ok("caf", "cache", "--cache", cache, "--limit", 0, "--clean").out
    assert "removed 3 outputs" in text
    assert "as long as request directories hold these files too" in text
    assert not list(cache.glob("*/*.root"))


def test_the_limit_is_that_of_the_deployment(b2cal: CommandLine, collect: Collect, home: Home) -> None:
    home.create()
    home.cache.rmdir()
    (collect("one", 1) / "cache").rename(home.cache)
    assert b2cal.ok("caf", "cache", "--json").json["limit_bytes"] is None
    assert b2cal("caf", "cache", "--clean").code == 2
    (home.path / "deployment.yaml").write_text("collector_cache: {limit_gb: 0.000001}\n")
    grow_old(home.cache)
    cleaned = b2cal.ok("caf", "cache", "--clean", "--json").json
    assert (cleaned["limit_bytes"], cleaned["outputs"], cleaned["cleaned"]["outputs"]) == (1000, 0, 1)


@pytest.mark.parametrize("text", ["{limit_gb: -1}", "{limit_gb: .inf}", "{limit_gb: much}", "{limit: 3}"])
def test_a_limit_that_is_none_is_refused(b2cal: CommandLine, collect: Collect, home: Home, text: str) -> None:
    home.create()
    home.cache.rmdir()
    (collect("one", 1) / "cache").rename(home.cache)
    (home.path / "deployment.yaml").write_text(f"collector_cache: {text}\n")
    answer = b2cal("caf", "cache")
    assert answer.code != 0
    assert "deployment.yaml" in answer.err
