"""A campaign's site decides whose CAF and which batch system does the work."""

from pathlib import Path

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, Laboratory

from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.definitions import embedded_workshop
from b2cal_core.campaigns import Site
from b2cal_core.errors import ConfigurationError
from resources.batch.local import LocalBatch
from resources.batch.opened import open_batch
from resources.batch.slurm import SlurmBatch
from resources.caf.basf2 import Basf2Caf
from resources.caf.embedded import EmbeddedCaf
from resources.home import Home


def home_with(directory: Path, deployment: str) -> Home:
    home = Home(directory).create()
    (directory / "deployment.yaml").write_text(deployment)
    return home


def test_the_caf_is_ours_or_that_of_basf2(tmp_path: Path) -> None:
    home = home_with(tmp_path, "basf2: {setup: source setup, backend: HTCondor, options: {global_job_limit: 5000}}")
    workshop = embedded_workshop(home)
    assert isinstance(workshop.caf(Site()), EmbeddedCaf)
    assert isinstance(workshop.caf(Site(caf="basf2")), Basf2Caf)
    assert workshop.validate(Site()).__module__ == "b2cal_caf.validation"
    assert workshop.validate(Site(caf="basf2")).__module__ == "resources.caf.basf2_validation"


@pytest.mark.parametrize(
    ("options", "said"), [("{queues: s}", "queues"), ("{queue: s}", "queue"), ("{heartbeat: {}}", "heartbeat")]
)
def test_an_option_that_basf2_does_not_take_is_refused(tmp_path: Path, options: str, said: str) -> None:
    home = home_with(tmp_path, f"basf2: {{backend: HTCondor, options: {options}}}")
    with pytest.raises(ConfigurationError, match=said):
        embedded_workshop(home).caf(Site(caf="basf2"))


def test_a_campaign_is_worked_on_the_storage_of_its_site(tmp_path: Path) -> None:
    storage = tmp_path / "elsewhere"
    with dg.DagsterInstance.ephemeral() as instance:
        lab = Laboratory(tmp_path, instance, campaign={"site": {"storage": str(storage)}})
        lab.book(BUCKET_1)
        runner = BucketRunner(lab.plan, lab.workshop(), instance=instance)
        failed = runner.work(BUCKET_1).failed
        assert failed
        assert all(f"the storage {storage} of the site is not there; mount it" in text for text in failed.values())
        storage.mkdir()
        assert runner.work(BUCKET_1).ok
    assert {request.directory.parents[2] for request in lab.caf.requests} == {storage / "work"}
    assert list(storage.glob("work/prompt/*/cdst/manifest.json"))
    assert not list(lab.home.work_dir.iterdir())


def test_its_collected_output_is_kept_there_too(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert home.area(Site(storage=str(tmp_path))).cache == tmp_path / "cache"
    assert home.area(Site()).cache == home.path / "cache"
    with pytest.raises(ValueError, match="storage"):
        Site(storage="relative/directory")


def test_the_batch_system_is_the_one_named(tmp_path: Path) -> None:
    assert isinstance(open_batch("local", max_processes=1), LocalBatch)
    assert isinstance(open_batch("slurm"), SlurmBatch)
    with pytest.raises(ConfigurationError, match=r"abacus.* local, htcondor, slurm"):
        open_batch("abacus")
