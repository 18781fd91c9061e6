"""The demo as a process of its own, small enough for a test, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resources.campaigns.files import FileCampaignStore
from resources.conditions.deployed import open_embedded
from resources.deployment import registry_address
from resources.home import Home
from resources.signoff.embedded import EmbeddedSignOffLog

SMALL = ("--seed", "5", "--runs", "6", "--bucket-runs", "3", "--scale", "4")
"""Two buckets with just enough events for every calibration."""


def start_demo(home: Path, options: Sequence[str] = SMALL) -> "subprocess.Popen[str]":
    """A demo whose lines can be read as it writes them; its answer goes to ``demo.json`` in the home's parent."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / "demo.json").open("w") as answer:
        return subprocess.Popen(
            [sys.executable, "-m", "b2cal_cli", "demo", "--json", "--home", str(home), *options],
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def run_until(process: "subprocess.Popen[str]", marker: str | None) -> list[str]:
    """Read the demo's lines; end it with SIGKILL at the first that matches ``marker``, or let it end by itself."""
    assert process.stderr is not None
    lines = []
    with process.stderr:
        for line in process.stderr:
            lines.append(line.rstrip())
            if marker is not None and re.search(marker, line):
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
    return lines


def complete_demo(home: Path, options: Sequence[str] = SMALL) -> dict[str, Any]:
    """The answer of a demo that must succeed."""
    process = start_demo(home, options)
    lines = run_until(process, None)
    assert process.returncode == 0, "\n".join(lines[-20:])
    answer: dict[str, Any] = json.loads((home.parent / "demo.json").read_text())
    return answer


def tags_of(home: Path) -> dict[str, Any]:
    """Every tag with its state, and its payloads by name, md5 and IoV."""
    conditions = open_embedded(Home(home))
    content: dict[str, Any] = {}
    for tag in conditions.list_tags():
        links = []
        for link in conditions.list_iovs(tag.name):
            payload = conditions.payload(link.name, link.revision)
            assert payload is not None
            links.append((link.name, payload.md5, str(link.iov)))
        content[tag.name] = {"state": tag.state.value, "links": sorted(links)}
    return content


def decisions_of(home: Path) -> set[tuple[str, str, str, str]]:
    """Bucket, calibration, decision and author of everything in the log."""
    log = EmbeddedSignOffLog(registry_address(Home(home)))
    return {(d.bucket, d.calibration, d.decision.value, d.author) for d in log.decisions("prompt")}


def buckets_of(home: Path) -> list[str]:
    """The keys of the campaign's buckets."""
    return [bucket.key for bucket in FileCampaignStore(Home(home)).buckets("prompt")]
