import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from servers.mariadb import MariaDBServer
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

TESTS = Path(__file__).parents[1]
START_AND_SLEEP = """
import sys, time
from pathlib import Path
from servers.mariadb import MariaDBServer
print(MariaDBServer(Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


def execute(address: str, *statements: str) -> list[Any]:
    """What the last statement answers, all of them in one transaction."""
    with create_engine(address, poolclass=NullPool).begin() as connection:
        results = [connection.execute(text(statement)) for statement in statements]
        return list(results[-1].scalars()) if results[-1].returns_rows else []


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return not status.rpartition(") ")[2].startswith("Z")  # ended, but nobody has asked how


def test_it_answers_and_tells_upper_from_lower_case(mariadb: MariaDBServer):
    address = mariadb.new_database()
    assert execute(address, "SELECT VERSION()")[0].count("MariaDB") == 1
    assert execute(address, "SELECT @@collation_database") == ["utf8mb4_bin"]
    assert execute(address, "SELECT @@innodb_flush_log_at_trx_commit") == [1]


def test_a_table_of_one_database_is_not_in_another(mariadb: MariaDBServer):
    one, other = mariadb.new_database(), mariadb.new_database()
    execute(one, "CREATE TABLE runs (number INT)")
    assert execute(one, "SHOW TABLES") == ["runs"]
    assert execute(other, "SHOW TABLES") == []


def test_what_was_committed_before_a_kill_is_there_after_a_restart(mariadb: MariaDBServer):
    address = mariadb.new_database()
    execute(address, "CREATE TABLE runs (number INT)")
    execute(address, "INSERT INTO runs VALUES (7)")
    mariadb.kill()
    mariadb.restart()
    assert execute(address, "SELECT number FROM runs") == [7]


def test_nothing_runs_or_answers_after_a_stop(mariadb: MariaDBServer):
    address, pid = mariadb.new_database(), mariadb.pid
    mariadb.stop()
    try:
        assert not is_alive(pid)
        with pytest.raises(OperationalError, match="Can't connect"):
            execute(address, "SELECT 1")
    finally:
        mariadb.restart()


def test_a_server_restarted_by_a_thread_outlives_the_thread(mariadb: MariaDBServer):
    address = mariadb.new_database()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(mariadb.restart).result()
    time.sleep(0.1)  # a signal at the end of the thread would have arrived
    assert execute(address, "SELECT 1") == [1]


def test_it_dies_with_a_killed_test_process(tmp_path: Path):
    command = [sys.executable, "-c", START_AND_SLEEP, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as tests:
        assert tests.stdout is not None
        server = int(tests.stdout.readline())
        assert is_alive(server)
        tests.send_signal(signal.SIGKILL)
    end = time.monotonic() + 10
    while is_alive(server):
        assert time.monotonic() < end, "the server still runs"
        time.sleep(0.05)
