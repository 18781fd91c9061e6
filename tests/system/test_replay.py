"""A list of runs is replayed through the whole platform, and what is told at its end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from demo_process import buckets_of, tags_of
from service_home import running_service

from b2cal_core.runs import RunRecord
from resources.deployment import registry_address
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SMALL = ("--generate", "6", "--seed", "5", "--scale", "4", "--bucket-runs", "3", "--speed", "20000")
FIRST, SECOND = "e0012r00001-e0012r00003", "e0012r00004-e0012r00006"
CAMPAIGN = """
name: prompt
catalogue: reference
calibrations: [caf_svd_time]
base_tags: [main]
target_tag: prompt_running
buckets: {runs: 2, counted: []}
collect_ahead: false
gates: {auto_sign_off: manual}
"""


def command(home: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "b2cal_cli", *map(str, arguments), "--home", str(home)]


def answer(home: Path, *arguments: object) -> Any:
    """What a command that must succeed says in JSON."""
    done = subprocess.run(command(home, *arguments, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def kill_at(home: Path, marker: str, *arguments: object) -> None:
    """Start the command, and kill it when its progress says this."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command(home, *arguments), stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    with process.stderr:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if marker in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL, "".join(lines[-20:])


def registered(home: Path) -> tuple[RunRecord, ...]:
    return EmbeddedRunRegistry(registry_address(Home(home))).runs()


def test_a_replay_that_is_killed_goes_on_where_it_was_and_publishes_every_bucket(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for marker in (" of 6 runs are registered", f"{FIRST}: tz0 running algorithms", f"{SECOND}: tz0 completed"):
        kill_at(home, marker, "replay", *SMALL)
    told = answer(home, "replay", *SMALL)
    (campaign,) = told["campaigns"]
    assert (told["runs"], campaign["waiting"], campaign["late"], campaign["not_published"]) == (6, 0, 0, {})
    assert [(one["bucket"], one["published"]) for one in campaign["buckets"]] == [(FIRST, True), (SECOND, True)]
    for one in campaign["buckets"]:
        assert sum(one["shares"].values()) == pytest.approx(one["from_first_run"], abs=1e-4)
        assert sum(one["shares_since_closing"].values()) == pytest.approx(one["from_closing"], abs=1e-4)
        assert one["shares"]["machine"] > 0
    assert buckets_of(home) == [FIRST, SECOND]
    before = tags_of(home)
    assert answer(home, "replay", *SMALL) == told
    assert tags_of(home) == before
    shown = answer(home, "latency", "show", "prompt", FIRST, "--plot", tmp_path / "latency.png")
    assert shown["buckets"] == campaign["buckets"][:1]
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_recorded_runs_are_replayed_and_what_waits_for_people_is_named_at_the_end(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN)
    feed = answer(home, "runs", "simulate", "--count", 3, "--scale", 0.5)["feed"]
    told = answer(home, "replay", feed, "--campaign", file, "--speed", 1e6, "--out-of-order", "100%")
    (campaign,) = told["campaigns"]
    assert len(registered(home)) == told["runs"] == 3
    assert campaign["waiting"] == 1
    bucket = "e0012r00001-e0012r00002"
    assert [one["published"] for one in campaign["buckets"]] == [False]
    (stopped,) = campaign["not_published"][bucket]
    assert (stopped["asset"], stopped["state"]) == ("prompt/caf_svd_time/sign_off", "blocked")
    assert stopped["command"].startswith(f"b2cal signoff accept|reject prompt {bucket}")
    assert campaign["buckets"][0]["shares"]["people"] > 0


def test_a_running_service_works_on_what_a_replay_only_registers(tmp_path: Path) -> None:
    home, file = Home(tmp_path / "home").create(), tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN.replace("manual", "none_fail"))
    generated = ("--generate", 2, "--scale", 0.5, "--campaign", file, "--speed", 1e6)
    with running_service(home):
        told = answer(home.path, "replay", *generated, "--service")
    (campaign,) = told["campaigns"]
    assert [(one["bucket"], one["published"]) for one in campaign["buckets"]] == [("e0012r00001-e0012r00002", True)]
