"""The benchmark runs, and its report has a line for everything it is to measure; how long things take is not tested."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("orchestration_graph")


def run(tmp_path: Path, *options: str) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "orchestration.py"), "--out", str(out), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done


def test_the_report_tells_of_sub_jobs_with_their_peers_of_a_chain_and_of_the_graph(tmp_path: Path) -> None:
    small = ["--jobs", "4", "40", "--repeats", "1", "--links", "3", "--sleeping", "60", "--scale", "0.02"]
    report, done = run(tmp_path, *small)
    lines = {(line["what"], line["jobs"]): line for part in report["parts"].values() for line in part}
    peers = {"ProcessPoolExecutor", "sub-process for each", "luigi, forking", "luigi in one process"}
    for jobs in (4, 40):
        whole = lines["whole embedded CAF", jobs]
        assert whole["figures"].keys() >= {"ms each", "own CPU ms", "peak MB", "status p50 ms", "status max ms"}
        assert whole["bounds"].keys() == lines["local batch system alone", jobs]["bounds"].keys() == peers
        assert {what for what, number in lines if number == jobs} >= peers
        assert whole["figures"]["peak MB"] >= whole["figures"]["grown MB"] >= 0
    assert lines["count the events of a file", 500]["figures"]["ms each"] > 0
    assert lines["chain of calibrations", 3]["bounds"].keys() == {"luigi, a chain of tasks, forking"}
    chain = lines["chain of calibrations", 3]["figures"]
    assert 0 < chain["p50 ms"] <= chain["p95 ms"] <= chain["max ms"]
    graph = lines["graph like that of Belle II", 60]
    assert graph["bounds"]["max(critical path, work / slots)"] > 1  # else the bound is none
    assert 0 < graph["figures"]["slots busy %"] < 100
    assert len(report["aims"]) == 11
    assert done.stdout.count("met: ") == 11
    assert report["machine"]["load"].keys() == {"before", "after sub-jobs", "after chain", "after makespan"}
    assert "this takes about" in done.stderr


def test_the_report_tells_of_sub_jobs_on_a_pool_of_htcondor(tmp_path: Path) -> None:
    report, _ = run(tmp_path, "--parts", "--htcondor", "3")
    lines = {line["what"]: line for line in report["parts"]["HTCondor"]}
    assert lines.keys() == {"whole CAF on HTCondor", "HTCondor through the adapter", "condor_submit, one cluster"}
    assert lines["whole CAF on HTCondor"]["bounds"]["condor_submit, one cluster"] > 0


def test_the_bound_of_a_graph_is_its_critical_path_or_its_work(graphs: Any) -> None:
    long = graphs.Node("long", (), 3, (1.0, 2.0))
    after = graphs.Node("after", ("long",), 1, (4.0,))
    wide = graphs.Node("wide", (), 1, (1.0,) * 40)
    graph = graphs.Graph((long, after, wide))
    assert graph.jobs == 47
    assert graph.critical_path == 3 * 2.0 + 4.0
    assert graph.work == 3 * 3.0 + 4.0 + 40.0
    assert graph.bound(2) == 26.5
    assert graph.bound(50) == 10.0


def test_nothing_waits_in_a_graph_that_is_played_through_on_enough_slots(graphs: Any) -> None:
    graph = graphs.belle_like(200, 1)
    assert graph.in_order(200) == pytest.approx(graph.critical_path)
    assert graph.urgent_first(200) == pytest.approx(graph.critical_path)
    for slots in (1, 5, 50):
        assert graph.bound(slots) <= graph.urgent_first(slots) + 1e-9
    assert graph.urgent_first(1) == pytest.approx(graph.work)


def test_urgent_sub_jobs_are_played_first(graphs: Any) -> None:
    idle = graphs.Node("idle", (), 1, (1.0, 1.0))
    first = graphs.Node("first", (), 1, (1.0,))
    second = graphs.Node("second", ("first",), 2, (1.0,))
    graph = graphs.Graph((idle, first, second))
    assert graph.in_order(2) == 4.0
    assert graph.urgent_first(2) == 3.0


def test_the_graph_is_that_of_belle_ii_and_the_same_for_the_same_seed(graphs: Any) -> None:
    graph = graphs.belle_like(2000, 3)
    assert graph == graphs.belle_like(2000, 3) != graphs.belle_like(2000, 4)
    level: dict[str, int] = {}
    for node in graph.nodes:
        level[node.name] = max((level[name] + 1 for name in node.depends_on), default=1)
    assert (len(graph.nodes), max(level.values()), graph.jobs) == (30, 8, 2000)
    assert sorted(node.passes for node in graph.nodes) == [1] * 25 + [3] * 5
    sleeps = [seconds for node in graph.nodes for seconds in node.sleeps]
    assert 1.0 <= min(sleeps) < max(sleeps) <= 5.0
