from pathlib import Path

import pytest
from campaign_store_contract import CAMPAIGN, CampaignStoreContract, small_catalogue

from b2cal_core.buckets import Bucket
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.ranges import ExpRun
from resources.campaigns.files import EDITED_BY_HAND, FileCampaignStore
from resources.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def store(home: Home, tmp_path: Path) -> FileCampaignStore:
    store = FileCampaignStore(home)
    (tmp_path / "scripts").mkdir()
    store.save_catalogue("r1", small_catalogue(), scripts=tmp_path / "scripts")
    return store


class TestFileCampaignStore(CampaignStoreContract):
    @pytest.fixture
    def store(self, store: FileCampaignStore) -> FileCampaignStore:
        return store


def test_a_campaign_file_keeps_the_managers_comments(store: FileCampaignStore, home: Home) -> None:
    text = "# agreed on Monday\n" + CAMPAIGN
    store.save_campaign(text)
    assert (home.campaigns / "prompt.yaml").read_text() == text


def test_a_text_edited_by_hand_is_logged_before_it_is_replaced(store: FileCampaignStore, home: Home) -> None:
    store.save_campaign(CAMPAIGN, author="mia")
    (home.campaigns / "prompt.yaml").write_text("name: [  # by hand")
    store.save_campaign(CAMPAIGN, author="ada")
    assert [(version.author, version.text) for version in store.versions("prompt")] == [
        ("mia", CAMPAIGN),
        (EDITED_BY_HAND, "name: [  # by hand"),
        ("ada", CAMPAIGN),
    ]
    (home.campaigns / "prompt.yaml").write_bytes(b"\xff")
    store.save_campaign(CAMPAIGN)
    assert len(store.versions("prompt")) == 4


def test_a_file_that_was_renamed_is_refused(store: FileCampaignStore, home: Home) -> None:
    store.save_campaign(CAMPAIGN)
    (home.campaigns / "prompt.yaml").rename(home.campaigns / "proc13.yaml")
    with pytest.raises(ConfigurationError, match="file and campaign must share the name"):
        store.campaign("proc13")


def test_a_file_spoiled_by_hand_is_named(store: FileCampaignStore, home: Home) -> None:
    store.save_campaign(CAMPAIGN)
    (home.campaigns / "prompt.yaml").write_text(CAMPAIGN.replace("target_tag", "target"))
    with pytest.raises(ConfigurationError, match=r"prompt\.yaml is not a valid campaign.*target"):
        store.campaign("prompt")


def test_scripts_that_are_gone_are_named(store: FileCampaignStore, tmp_path: Path) -> None:
    (tmp_path / "scripts").rmdir()
    with pytest.raises(ConfigurationError, match=r"scripts, which is gone.*import"):
        store.scripts("r1")


def test_a_damaged_catalogue_is_named(store: FileCampaignStore, home: Home) -> None:
    (home.catalogues / "r1" / "catalogue.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"catalogue\.json is damaged.*import the release r1 again"):
        store.catalogue("r1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", r"release\.json does not say where the scripts are"),
        ('{"scripts": 3}', "does not say"),
        ("[]", "damaged"),
    ],
)
def test_a_release_that_does_not_say_where_its_scripts_are_is_named_and_hinders_no_other(
    store: FileCampaignStore, home: Home, text: str, says: str
) -> None:
    store.save_campaign(CAMPAIGN)
    before = store.fingerprint(), store.fingerprint_of("prompt")
    (home.catalogues / "r1" / "release.json").write_text(text)
    with pytest.raises(ConfigurationError, match=f"{says}.*import"):
        store.scripts("r1")
    assert store.fingerprint() != before[0]
    assert store.fingerprint_of("prompt") != before[1]


@pytest.mark.parametrize("release", ["", "..", "a/b", ".hidden", "r 1"])
def test_a_release_is_named_so_that_it_can_be_a_directory(
    store: FileCampaignStore, tmp_path: Path, release: str
) -> None:
    with pytest.raises(ConfigurationError, match="a release is named with"):
        store.save_catalogue(release, small_catalogue(), scripts=tmp_path)


def test_the_book_says_who_closed_a_bucket(store: FileCampaignStore) -> None:
    store.add_bucket("prompt", Bucket(ExpRun(12, 1), ExpRun(12, 20)), closed_by="mia")
    (entry,) = store.book("prompt")
    assert (entry.bucket.key, entry.closed_by) == ("e0012r00001-e0012r00020", "mia")


def test_a_home_without_room_is_told_so(store: FileCampaignStore, home: Home) -> None:
    home.campaigns.rmdir()
    home.campaigns.write_text("a file where a directory should be")
    with pytest.raises(BackendError, match=r"prompt\.yaml cannot be written"):
        store.save_campaign(CAMPAIGN)


def test_a_campaign_counts_as_changed_by_its_own_file_and_release_only(
    store: FileCampaignStore, home: Home, tmp_path: Path
) -> None:
    scripts = tmp_path / "others"
    scripts.mkdir()
    store.save_catalogue("r2", small_catalogue(), scripts=scripts)
    store.save_campaign(CAMPAIGN)
    other = (
        CAMPAIGN.replace("name: prompt", "name: other")
        .replace("catalogue: r1", "catalogue: r2")
        .replace("data_", "other_")
    )
    (home.campaigns / "other.yaml").write_text(other)
    first, second = store.fingerprint_of("prompt"), store.fingerprint_of("other")
    (scripts / "caf_new.py").write_text("# new\n")
    assert store.fingerprint_of("prompt") == first
    assert store.fingerprint_of("other") != second
    store.save_campaign(CAMPAIGN + "# changed\n")
    assert store.fingerprint_of("prompt") != first
    (home.campaigns / "other.yaml").write_text("name: [")
    assert store.fingerprint_of("other") not in {second, store.fingerprint_of("nowhere")}
