"""A private Slurm of the tests: a controller and two machines of four processors each, all of them this one."""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

START_SECONDS = 60.0
POLL_SECONDS = 0.02
NODES = ("n1", "n2")
PROCESSORS = 4
"""Of each machine, whatever it really has."""
MAX_ARRAY_SIZE = 101
"""Elements of one array, at most; a tenth of what is usual."""

# quick, without cgroups (memory is measured and enforced by Slurm itself), and only on 127.0.0.1
SETTINGS = f"""
ClusterName=b2cal
SlurmctldHost={{host}}(127.0.0.1)
SlurmctldPort={{ports[0]}}
SlurmUser={{user}}
SlurmdUser={{user}}
AuthType=auth/munge
AuthInfo=socket={{directory}}/munge.sock
StateSaveLocation={{directory}}/state
SlurmdSpoolDir={{directory}}/spool/%n
SlurmctldPidFile={{directory}}/slurmctld.pid
SlurmdPidFile={{directory}}/%n.pid
SlurmctldLogFile={{directory}}/slurmctld.log
SlurmdLogFile={{directory}}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
MaxArraySize={MAX_ARRAY_SIZE}
MinJobAge=600
KillWait=2
MessageTimeout=5
PropagateResourceLimits=NONE
MpiDefault=none
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
NodeName=n1 NodeHostname={{host}} NodeAddr=127.0.0.1 Port={{ports[1]}} CPUs={PROCESSORS} RealMemory=16000
NodeName=n2 NodeHostname={{host}} NodeAddr=127.0.0.1 Port={{ports[2]}} CPUs={PROCESSORS} RealMemory=16000
PartitionName=calibration Nodes=n1,n2 Default=YES State=UP MaxTime=INFINITE
"""


class SlurmCluster:
    """A Slurm on 127.0.0.1 that ends, with its jobs, when it is stopped or the process that started it ends.

    Args:
        directory: where its settings, state and logs go; made if missing.

    Attributes:
        environment: what Slurm's commands need to find it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.environment: Mapping[str, str] = {"SLURM_CONF": str(directory / "slurm.conf")}
        self._keeper = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("keeper.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self._write_settings()
            self._start_munge()
            self.controller = self._start("slurmctld", "-D")
            for node in NODES:
                self._start("slurmd", "-D", "-N", node)
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the daemons and the jobs; when it returns, none of them is left."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper.wait(START_SECONDS)
        if self._keeper.stdout is not None:
            self._keeper.stdout.close()

    def processes(self) -> list[psutil.Process]:
        """The daemons, the jobs and whatever they started."""
        return psutil.Process(self._keeper.pid).children(recursive=True)

    def kill_controller(self) -> None:
        """End slurmctld at once, as a crash would; the machines and their jobs go on."""
        process = psutil.Process(self.controller)
        doomed = [process, *process.children(recursive=True)]  # a helper that runs scripts may outlive it
        for one in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(doomed, START_SECONDS)

    def start_controller(self) -> None:
        """Start slurmctld again, on the state that the one before saved."""
        self.controller = self._start("slurmctld", "-D")
        self.wait_until_ready()

    def save(self) -> None:
        """Return when what the controller knows now is on disk; it writes seconds after a change."""
        state = self.directory / "state" / "job_state"
        began = time.time()
        change = self.run("sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true").strip()
        self._wait_for(lambda: state.exists() and state.stat().st_mtime > began, "saves its state")
        self.run("scancel", change)

    def run(self, *command: str) -> str:
        """What a command of Slurm prints; it must end well."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def wait_until_ready(self) -> None:
        """Return when the controller answers and both machines take jobs, also if it had taken them out."""
        self._wait_for(self._is_ready, "is ready")

    def _is_ready(self) -> bool:
        try:
            states = self.run("sinfo", "-h", "-N", "-o", "%N %t").split()[1::2]
            if any(state.startswith("dr") for state in states):  # a controller that crashed may distrust them
                self.run("scontrol", "update", f"NodeName={','.join(NODES)}", "State=RESUME")
        except (RuntimeError, subprocess.TimeoutExpired):
            return False
        return len(states) == len(NODES) and set(states) <= {"idle", "mix", "alloc", "comp"}

    def _write_settings(self) -> None:
        for name in ("state", "spool", *(f"spool/{node}" for node in NODES)):
            (self.directory / name).mkdir()
        key = self.directory / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        me = pwd.getpwuid(os.geteuid()).pw_name
        settings = SETTINGS.format(
            host=socket.gethostname(), user=me, directory=self.directory, ports=_free_ports(1 + len(NODES))
        )
        (self.directory / "slurm.conf").write_text(settings)

    def _start_munge(self) -> None:
        own = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munge.pid", "log-file": "munge.log"}
        files = [f"--{option}={self.directory / name}" for option, name in {**own, "seed-file": "munge.seed"}.items()]
        self._start("munged", "--foreground", "--force", "--num-threads=2", *files)
        self._wait_for((self.directory / "munge.sock").exists, "has its munged")

    def _start(self, program: str, *arguments: str) -> int:
        log = self.directory / f"{program}.out"
        request = {"command": [_program(program), *arguments], "log": str(log), "environment": dict(self.environment)}
        if self._keeper.stdin is None or self._keeper.stdout is None:
            raise RuntimeError("the keeper of this Slurm has ended")
        self._keeper.stdin.write(json.dumps(request) + "\n")
        self._keeper.stdin.flush()
        answer = self._keeper.stdout.readline().strip()
        if not answer.isdigit():
            raise RuntimeError(f"{program} could not be started: {answer}")
        return int(answer)

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > end:
                logs = sorted([*self.directory.glob("*.log"), *self.directory.glob("*.out")])
                ends = "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)
                raise RuntimeError(f"not within {START_SECONDS:.0f} s: Slurm in {self.directory} {what}\n{ends}")
            time.sleep(POLL_SECONDS)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise RuntimeError(f"{name} is not installed; run scripts/setup test")
    return found


def _free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
