"""Campaigns come and go while Dagster runs."""

import getpass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from service_home import Service, prepare_home, running_service

from b2cal_core.campaign_states import CampaignChange, CampaignState
from resources.campaigns.files import FileCampaignStore

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
PATIENCE = 60.0
SECOND = """
name: second
catalogue: reference
calibrations: [caf_svd_time]
base_tags: [main]
target_tag: data_second
"""
_GROUPS = "{repositoriesOrError {... on RepositoryConnection {nodes {assetGroups {groupName}}}}}"


def groups(service: Service) -> set[str]:
    """First words of those that are shown, which are the campaigns; none while they are being loaded."""
    found = service.ask(_GROUPS)["repositoriesOrError"]["nodes"]
    return {group["groupName"].partition("_")[0] for repository in found for group in repository["assetGroups"]}


def test_a_campaign_is_shown_and_hidden_without_a_restart(tmp_path: Path) -> None:
    home = prepare_home(tmp_path / "home", runs=2, bucket_runs=9)
    store = FileCampaignStore(home)
    with running_service(home) as service:
        service.wait_until("the first campaign", lambda: groups(service) == {"runs", "prompt"}, seconds=PATIENCE)
        store.save_campaign(SECOND)
        service.wait_until("the new campaign", lambda: "second" in groups(service), seconds=PATIENCE)
        daemon = home.path / "logs" / "daemon.log"
        service.wait_until("the daemon", lambda: "LOCATION_UPDATED" in daemon.read_text(), seconds=PATIENCE)
        change = CampaignChange("second", CampaignState.archived, getpass.getuser(), "over", datetime.now(UTC))
        store.change_state(change)
        service.wait_until("the archive", lambda: groups(service) == {"runs", "prompt"}, seconds=PATIENCE)
        assert "campaigns changed and are loaded" in (home.path / "up.log").read_text()
