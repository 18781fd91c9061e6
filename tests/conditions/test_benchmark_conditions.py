"""The benchmark runs, and its report has a line for everything it is to measure; how long things take is not tested."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "conditions.py"


def test_the_report_has_look_ups_in_process_and_over_http_and_publishes(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    small = ["--iovs", "0", "1000", "--publish", "200", "--seconds", "0.2", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *small], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    rows = report["rows"]
    found = {(row["what"], row["clients"]) for row in rows if row["iovs"] == 1000}
    assert {("look-up over HTTP", clients) for clients in (1, 8, 64)} <= found
    assert {"look-up in process, any run", "publish: plan, apply, verify"} <= {what for what, _ in found}
    assert "publish: plan, apply, verify" in {row["what"] for row in rows if row["iovs"] == 0}
    for row in rows:
        assert 0 < row["median_ms"] <= row["p99_ms"]
    bounded = {row["what"]: set(row["bounds"]) for row in rows if row["clients"] == 1}
    assert bounded["look-up in process, any run"] == bounded["publish: plan, apply, verify"] == {"bare SQL"}
    assert bounded["look-up over HTTP"] == {"bare SQL", "fixed answer"}
    assert "times the bound" in done.stdout
    assert len(report["aims"]) == 4  # a look-up, two publishes, and that these cost the same
    assert done.stdout.count("met: ") == 4
    assert report["machine"]["processors"] >= 1
    assert "this takes about" in done.stderr
