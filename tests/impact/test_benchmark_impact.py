"""The benchmark runs, and its report has a line for everything it is to measure; how long things take is not tested."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "impact.py"


def test_the_report_has_questions_beside_a_bare_scan_and_after_a_publish(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    small = ["--iovs", "1000", "--seconds", "0.2", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *small], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    bounds = {row["what"]: set(row["bounds"]) for row in report["rows"]}
    assert bounds["question, all runs"] == bounds["question, one run"] == {"bare SQL scan"}
    assert {"first question, tables derived", "question after a publish"} <= set(bounds)
    assert len(report["aims"]) == done.stdout.count("met: ") == 1
