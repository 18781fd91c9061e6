"""What a deployment says of its batch systems reaches them; what cannot be used is said at once."""

import time
from pathlib import Path

import pytest
from servers.htcondor import HTCondorPool
from servers.slurm import SlurmCluster

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.jobs import JobSpec
from b2cal_core.ports import BatchBackend
from resources.batch.opened import open_batch
from resources.deployment import BatchSettings

PATIENCE = 60.0


def opened(kind: str, **settings: object) -> BatchBackend:
    return open_batch(kind, BatchSettings.model_validate({kind: settings}))


def job(directory: Path, memory: int = 300) -> JobSpec:
    return JobSpec("key", directory / "job", "b2cal_caf.collect_job", memory=memory)


def test_local_jobs_together_get_the_memory_of_the_deployment(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"300 MB, jobs here get .* 299 MB"):
        opened("local", memory=299).submit([job(tmp_path)])


def test_jobs_go_to_the_partition_of_the_deployment_with_its_options(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    with pytest.raises(BackendError, match="invalid partition"):
        opened("slurm", partition="nowhere").submit([job(tmp_path)])
    batch = opened("slurm", partition="calibration", options=["--hold", "--nice=7"], python="/shared/bin/python3")
    ids = batch.submit([job(tmp_path)])
    assert slurm.run("squeue", "--noheader", "--format=%P %y %r").split() == ["calibration", "7", "JobHeldUser"]
    assert any("/shared/bin/python3" in script.read_text() for script in tmp_path.glob(".slurm/*/array.sh"))
    batch.cancel(ids)


def test_jobs_go_to_the_queue_of_the_deployment_with_its_lines(htcondor: HTCondorPool, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no queue elsewhere"):
        opened("htcondor", schedd="elsewhere").submit([job(tmp_path)])
    lines = {"hold": True, "rank": 7, "accounting_group": "belle2.calib"}
    batch = opened("htcondor", lines=lines, python="/shared/bin/python3")
    ids = batch.submit([job(tmp_path)])
    asked = htcondor.run("condor_q", "-af", "AcctGroup", "Rank", "JobStatus", "Cmd")
    assert asked.split() == ["belle2.calib", "7", "5", "/shared/bin/python3"]
    batch.cancel(ids)


def test_a_line_that_is_set_for_every_job_cannot_be_given() -> None:
    with pytest.raises(ConfigurationError, match="executable"):
        opened("htcondor", lines={"executable": "/bin/true"})


def test_configuration_files_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONDOR_CONFIG", str(tmp_path / "condor_config"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    for kind in ("htcondor", "slurm"):
        with pytest.raises(ConfigurationError, match=str(tmp_path)):
            opened(kind)


def test_why_a_job_waits_that_no_machine_can_take_is_told_by_htcondor(htcondor: HTCondorPool, tmp_path: Path) -> None:
    batch = opened("htcondor")
    ids = batch.submit([job(tmp_path / name, memory=900_000) for name in ("first", "second")])
    why = told(batch, ids[0])
    assert "no match found; it asks for 1 processors and 900000 MB" in why
    assert opened("htcondor").why_waiting(ids) == dict.fromkeys(ids, why)
    batch.cancel(ids)
    assert batch.why_waiting(ids) == {}
    assert not htcondor.run("condor_q", "-af", "ClusterId")


def test_why_a_job_waits_is_told_by_slurm(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    batch = opened("slurm", options=["--begin=now+1hour"])
    ids = batch.submit([job(tmp_path)])
    assert told(batch, ids[0]) == "waits in Slurm: BeginTime"
    batch.cancel(ids)
    assert batch.why_waiting(ids) == {}


def told(batch: BatchBackend, job_id: str) -> str:
    """Why the job waits, once the batch system has looked at it."""
    end = time.monotonic() + PATIENCE
    while not (reasons := batch.why_waiting([job_id])):
        assert time.monotonic() < end, "it does not say"
        time.sleep(0.1)
    return reasons[job_id]
