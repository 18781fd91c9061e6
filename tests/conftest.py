"""Servers that every folder of tests can ask for."""

import shutil
from collections.abc import Iterator

import pytest
from servers.htcondor import HTCondorPool
from servers.mariadb import MariaDBServer
from servers.slurm import SlurmCluster


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    """A MariaDB server, one for each test process; a test that ends it starts it again."""
    directory = tmp_path_factory.mktemp("mariadb")
    server = MariaDBServer(directory)
    yield server
    server.kill()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A Slurm, one for each test process; a test that takes a part of it away brings it back."""
    directory = tmp_path_factory.mktemp("slurm")
    cluster = SlurmCluster(directory)
    yield cluster
    cluster.stop()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def htcondor() -> Iterator[HTCondorPool]:
    """An HTCondor pool, one for each test process, that this process and its children find by ``CONDOR_CONFIG``."""
    pool = HTCondorPool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDOR_CONFIG", str(pool.config))
        yield pool
    pool.close()
