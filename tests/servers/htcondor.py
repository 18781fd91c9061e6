"""A private HTCondor pool of the tests: all its daemons and eight slots on 127.0.0.1, quick to react.

Every daemon and every job runs as the user who runs the tests. HTCondor runs no jobs of root; so if that is root, the
pool lives in a user namespace where root's processes and files belong to another account.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

START_SECONDS = 120.0
STOP_SECONDS = 60.0
ORDERLY_SECONDS = 5.0  # daemons that wait for jobs they cannot reach take half a minute
REAP_SECONDS = 5.0  # init takes up the ended processes of others, where there is one
POLL_SECONDS = 0.05
SLOTS = 8
MARK = "B2CAL_TEST_POOL"  # in the environment of every process of a pool
NAME_FOR_ROOT = "daemon"

CONFIG = """
RELEASE_DIR = {release}
LOCAL_DIR = {directory}
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIBEXEC = $(RELEASE_DIR)/libexec/condor
LIB = $(RELEASE_DIR)/lib/condor
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
REQUIRE_LOCAL_CONFIG_FILE = False
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =

DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
SHARED_PORT_PORT = {port}
USE_SHARED_PORT = True
DAEMON_SOCKET_DIR = {sockets}
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = pool.local
UID_DOMAIN = pool.local
FILESYSTEM_DOMAIN = pool.local
TRUST_UID_DOMAIN = True
SCHEDD_NAME = schedd@
CONDOR_IDS = {ids}

SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_INTEGRITY = REQUIRED
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
SEC_CLIENT_AUTHENTICATION_METHODS = FS
SEC_TOKEN_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords.d
SEC_TOKEN_POOL_SIGNING_KEY_FILE = $(LOCAL_DIR)/passwords.d/POOL
TRUST_DOMAIN = pool.local
ALLOW_READ = *
ALLOW_WRITE = {account}@pool.local
ALLOW_DAEMON = {account}@pool.local, condor@pool.local, condor@family, condor@child
ALLOW_NEGOTIATOR = $(ALLOW_DAEMON)
ALLOW_ADMINISTRATOR = $(ALLOW_DAEMON)
ALLOW_ADVERTISE_STARTD = $(ALLOW_DAEMON)
ALLOW_ADVERTISE_SCHEDD = $(ALLOW_DAEMON)
ALLOW_ADVERTISE_MASTER = $(ALLOW_DAEMON)

# a pretended machine
NUM_CPUS = {slots}
MEMORY = {memory}
SLOT_TYPE_1 = cpus=1,memory=1024,disk=10%
NUM_SLOTS_TYPE_1 = {slots}
SLOT_TYPE_1_PARTITIONABLE = False
START = True
SUSPEND = False
PREEMPT = False
RUNBENCHMARKS = 0
STARTD_HAS_BAD_UTMP = True
JOB_DEFAULT_REQUESTDISK = 1024
STARTER_JOB_ENVIRONMENT = "{mark}"

# quick reactions
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 0
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_MIN_INTERVAL = 0
NEGOTIATOR_CYCLE_DELAY = 0
UPDATE_INTERVAL = 5
STARTER_UPDATE_INTERVAL = 1
STARTER_INITIAL_UPDATE_INTERVAL = 1
SHADOW_QUEUE_UPDATE_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 1
MAX_PERIODIC_EXPR_INTERVAL = 2
PID_SNAPSHOT_INTERVAL = 1
JOB_START_COUNT = 50
JOB_START_DELAY = 0
MASTER_BACKOFF_CONSTANT = 1
MASTER_BACKOFF_CEILING = 2
"""


class HTCondorPool:
    """A pool on 127.0.0.1; a process finds it through ``environment``.

    Its configuration, logs and queue lie in a directory that its account can enter, which those of pytest are not.
    """

    def __init__(self) -> None:
        self._release = _release()
        self.directory = Path(tempfile.mkdtemp(prefix="b2cal-htcondor-"))
        self._account = pwd.getpwnam(NAME_FOR_ROOT) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._make_directory()
        self.start()

    @property
    def config(self) -> Path:
        """The configuration file, for daemons and clients alike."""
        return self.directory / "condor_config"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to find the pool and its programs."""
        programs = [str(self._release / "bin"), str(self._release / "sbin"), os.environ.get("PATH", os.defpath)]
        return {"CONDOR_CONFIG": str(self.config), "PATH": os.pathsep.join(programs)}

    @property
    def log(self) -> Path:
        """Where the daemons write their logs."""
        return self.directory / "log"

    def start(self) -> None:
        """Start the daemons, and wait until all slots are free for jobs."""
        command = [
            _program("setpriv"),
            "--pdeathsig",
            "QUIT",
            "--",
            str(self._release / "sbin" / "condor_master"),
            "-f",
        ]
        if os.geteuid() == 0:
            ids = [f"--map-user={self._account.pw_uid}", f"--map-group={self._account.pw_gid}"]
            command = [_program("unshare"), "--user", *ids, *command]
        environment = {**self.environment, "HOME": str(self.directory), MARK: str(self.directory)}
        with (self.directory / "out").open("ab") as out:
            self._master = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            self._wait_until(lambda: self._free_slots() == SLOTS, START_SECONDS, "has not got all slots")
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """End the daemons and their jobs at once; none of their processes is left."""
        known = self.processes()
        self._master.send_signal(signal.SIGQUIT)  # quick, but in order: the queue is written, jobs are ended
        try:
            self._master.wait(ORDERLY_SECONDS)
        except subprocess.TimeoutExpired:
            self._master.kill()
            self._master.wait(STOP_SECONDS)
        while left := self.processes():
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, POLL_SECONDS)
        psutil.wait_procs(known, REAP_SECONDS)

    def close(self) -> None:
        """Stop, and remove the directory."""
        self.stop()
        shutil.rmtree(self.directory)

    def processes(self) -> list[psutil.Process]:
        """All that runs for the pool: daemons, jobs, and what these started."""
        mark = f"{MARK}={self.directory}".encode()
        return [psutil.Process(pid) for pid in psutil.pids() if mark in _environment(pid)]

    def restart(self) -> None:
        """Stop and start; the queue is kept."""
        self.stop()
        self.start()

    def daemon(self, name: str) -> psutil.Process:
        """The process of a daemon, such as ``condor_schedd``."""
        found = [one for one in psutil.Process(self._master.pid).children() if one.name() == name]
        if not found:
            raise RuntimeError(f"no {name} runs in the pool of {self.directory}")
        return found[0]

    def kill_schedd(self) -> None:
        """End the daemon that has the queue, as a crash would; the pool starts another after some seconds."""
        schedd = self.daemon("condor_schedd")
        schedd.kill()
        schedd.wait(STOP_SECONDS)

    @property
    def is_answering(self) -> bool:
        """Whether the daemon that has the queue answers."""
        try:
            self.run("condor_q", "-totals")
        except (RuntimeError, subprocess.TimeoutExpired):
            return False
        return True

    def remove_all_jobs(self) -> None:
        """Remove the jobs there are; one that ends by itself meanwhile fails the command, which is then given again."""
        for _ in range(5):
            with suppress(RuntimeError):
                self.run("condor_rm", "-all")
                return
            time.sleep(1)
        self.run("condor_rm", "-all")

    def run(self, *command: str) -> str:
        """What one of the pool's commands prints.

        Raises:
            RuntimeError: it did not end well.
        """
        program = str(self._release / "bin" / command[0])
        done = subprocess.run(
            [program, *command[1:]],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=STOP_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _free_slots(self) -> int:
        if self._master.poll() is not None:
            raise RuntimeError(f"condor_master ended with {self._master.returncode}\n{self._last_lines()}")
        try:
            return self.run("condor_status", "-af", "Name").count("\n")
        except (RuntimeError, subprocess.TimeoutExpired):
            return 0  # the collector does not listen yet

    def _wait_until(self, condition: Callable[[], bool], seconds: float, problem: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"the pool of {self.directory} {problem} after {seconds} s\n{self._last_lines()}")
            time.sleep(POLL_SECONDS)

    def _last_lines(self) -> str:
        logs = [self.directory / "out", self.log / "MasterLog"]
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())

    def _make_directory(self) -> None:
        for name in ("log", "spool", "execute", "lock", "run", "tokens.d", "passwords.d"):
            (self.directory / name).mkdir(mode=0o700 if name.endswith(".d") else 0o755)
        self.config.write_text(
            CONFIG.format(
                release=self._release,
                directory=self.directory,
                sockets=self.directory / "run" / "s",
                port=_free_port(),
                account=self._account.pw_name,
                ids=f"{os.geteuid()}.{os.getegid()}",
                mark=f"{MARK}={self.directory}",
                slots=SLOTS,
                memory=SLOTS * 1024,
            )
        )


def _release() -> Path:
    """The ``usr`` directory of the HTCondor that ``scripts/setup`` unpacked."""
    directory = Path(os.environ.get("B2CAL_HTCONDOR") or Path(sys.prefix) / "htcondor") / "usr"
    if not (directory / "sbin" / "condor_master").exists():
        raise RuntimeError(f"{directory} holds no HTCondor; run scripts/setup test")
    return directory


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed; it belongs to the package util-linux")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(pid: int) -> list[bytes]:
    """What the process was started with; nothing of one that has ended, or is somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
