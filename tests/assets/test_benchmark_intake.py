"""The benchmark runs, and its report has a line for everything it is to measure; how long things take is not tested."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "intake.py"


def test_the_report_tells_of_cold_intake_beside_its_peer_of_memory_and_of_steady_ticks(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    small = ["--runs", "800", "--ticks", "1", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *small], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    lines = {line["what"]: line for line in report["parts"]["SQLite"]}
    cold = lines["cold intake"]
    assert cold["bounds"].keys() == {"bare inserts", "its processor time"}
    parts = (lines["registered"], lines["taken in by ticks"])
    assert 0 < max(part["figures"]["seconds"] for part in parts) < cold["figures"]["seconds"]
    assert lines["taken in by ticks"]["figures"]["ticks"] >= 1
    assert lines["work on its buckets asked for"]["jobs"] == 2
    for kind in ("no news", "5 new runs", "5 runs of another quality"):
        assert lines[f"tick, {kind}"]["figures"]["CPU ms"] > 0
    assert len(report["aims"]) == done.stdout.count("met: ") == 5
