"""A private MariaDB server of the tests, which keeps what was committed when it is killed."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql

START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
TIMEOUTS: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60}

# small and quick, yet every commit is in the log before it is acknowledged
SETTINGS = (
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-file-size=8M",
    "--innodb-use-native-aio=0",  # its contexts are few on a machine with many servers
    "--skip-name-resolve",
)
OPEN_TO_ROOT = ("--auth-root-authentication-method=normal", "--skip-test-db")  # root needs no password

# outlives the threads that ask it to start something; made only when a thread other than the main one does
_LASTING_THREAD = ThreadPoolExecutor(1, thread_name_prefix="mariadb")


class MariaDBServer:
    """A MariaDB server on 127.0.0.1 that ends, by SIGKILL, with the process that started it.

    Args:
        directory: where its data and its log go; made if missing.
        settings: further options of the server; they win over those of the tests.
    """

    def __init__(self, directory: Path, settings: Sequence[str] = ()) -> None:
        self.directory, self._settings = directory, tuple(settings)
        self.port = _free_port()
        directory.mkdir(parents=True, exist_ok=True)
        _run_to_end([_program("mariadb-install-db"), *self._options(), *OPEN_TO_ROOT])
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Process id of the server started last."""
        return self._process.pid

    def new_database(self) -> str:
        """Create an empty database and return its SQLAlchemy address."""
        name = f"test_{secrets.token_hex(6)}"
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        timeouts = "&".join(f"{key}={seconds}" for key, seconds in TIMEOUTS.items())
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}?charset=utf8mb4&{timeouts}"

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut the server down; one that has ended already stays so."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start the server, stopped first if it runs, on the same data and port."""
        self.stop()
        self._process = self._start()

    def _end(self, number: signal.Signals) -> None:
        self._process.send_signal(signal.SIGCONT)  # a test may have halted it
        self._process.send_signal(number)
        self._process.wait(STOP_SECONDS)

    def _options(self) -> list[str]:
        user = ["--user=root"] if os.geteuid() == 0 else []
        # not a common directory for temporary files: a server that starts removes those of all others from it
        own = [f"--datadir={self.directory / 'data'}", f"--tmpdir={self.directory}"]
        return ["--no-defaults", *own, *user, *SETTINGS, *self._settings]

    def _start(self) -> subprocess.Popen[bytes]:
        # a relative socket path is taken from the data directory, and is never too long
        network = ["--bind-address=127.0.0.1", f"--port={self.port}", "--socket=s.sock", "--pid-file=pid"]
        with self._log.open("ab") as log:
            process = _start_bound([_program("mariadbd"), *self._options(), *network], log)
        try:
            self._wait_until_it_answers(process)
        except BaseException:
            process.kill()
            process.wait(STOP_SECONDS)
            raise
        return process

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self._connect().close()
            except pymysql.OperationalError as error:
                if process.poll() is not None or time.monotonic() > end:
                    log = self._log.read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"mariadbd on port {self.port} does not answer\n{log}") from error
                time.sleep(POLL_SECONDS)
            else:
                return

    def _connect(self) -> "pymysql.Connection[Any]":
        return pymysql.connect(host="127.0.0.1", port=self.port, user="root", **TIMEOUTS)

    @property
    def _log(self) -> Path:
        return self.directory / "mariadbd.log"


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise RuntimeError(f"{name} is not installed; run scripts/setup test")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run_to_end(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")


def _start_bound(command: list[str], log: Any) -> subprocess.Popen[bytes]:
    """Start ``command``, to be killed with this process; the kernel goes by the thread that started it (prctl(2))."""
    bound = [_program("setpriv"), "--pdeathsig", "KILL", "--", *command]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(bound, stdout=log, stderr=log, start_new_session=True)

    if threading.current_thread() is threading.main_thread():
        return start()
    return _LASTING_THREAD.submit(start).result()
