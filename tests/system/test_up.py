"""The service as one command: it starts both servers, and leaves none of them behind."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
PATIENCE_MS = 60_000


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def up(tmp_path: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """A service that says it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "b2cal_cli", "up", "--home", str(tmp_path / "home"), "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.readline().startswith(f"ready: http://127.0.0.1:{port} ")
        yield process
    process.kill()
    process.wait()


def servers_of(home: Path) -> list[int]:
    """Every process that works on the home, the one that started them aside."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"DAGSTER_HOME={home / 'dagster'}\0".encode() in environment and b"b2cal_cli" not in command:
            found.append(int(process.name))
    return found


def wait_for_end(pids: list[int]) -> None:
    """Return when none of the processes lives; fail when one does for too long."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        ended = poller.poll(PATIENCE_MS)
        os.close(handle)
        assert ended, f"process {pid} still lives"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_the_command(up: "subprocess.Popen[str]", tmp_path: Path, number: int) -> None:
    servers = servers_of(tmp_path / "home")
    assert len(servers) >= 2
    up.send_signal(number)
    wait_for_end([up.pid, *servers])
    assert servers_of(tmp_path / "home") == []
    assert up.wait() == (-9 if number == signal.SIGKILL else 0)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "b2cal_cli", "up", "--home", str(tmp_path / "home"), "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "choose another with --port" in done.stderr


def test_a_home_with_a_spoiled_campaign_is_served_all_the_same(tmp_path: Path, port: int) -> None:
    (tmp_path / "home" / "campaigns").mkdir(parents=True)
    (tmp_path / "home" / "campaigns" / "prompt.yaml").write_text("name: [")
    process = subprocess.Popen(
        [sys.executable, "-m", "b2cal_cli", "up", "--home", str(tmp_path / "home"), "--port", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.readline().startswith("ready: ")
        process.terminate()
        assert process.wait() == 0
