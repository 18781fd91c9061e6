"""The benchmark runs, and its report has a line for everything it is to measure; how long things take is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "automation.py"
LOOKS = ("the buckets have come", "nothing happened", "one was signed off")


@pytest.mark.timeout(600)
def test_the_report_tells_of_both_ways_over_the_same_buckets_and_both_start_the_same(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    small = ["--buckets", "2", "--ticks", "1", "--no-count", "--out", str(out)]
    done = subprocess.run([sys.executable, str(BENCHMARK), *small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    lines = {line["what"]: line for line in report["lines"]}
    assert list(lines) == [f"{kind}, {look}" for kind in ("gates sensor", "conditions") for look in LOOKS]
    for kind in ("gates sensor", "conditions"):
        assert [lines[f"{kind}, {look}"]["figures"]["Dagster runs"] for look in LOOKS] == [0, 0, 1]
    assert all(lines[f"conditions, {look}"]["bounds"].keys() == {"gates sensor"} for look in LOOKS)
    (aim,) = report["aims"]
    assert aim["reached"] > 0
