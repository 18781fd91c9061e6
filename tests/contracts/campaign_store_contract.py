"""What every store of campaigns, and every fake of one, must do.

The release ``r1`` is known; it has the calibrations A and B, and B needs A.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2cal_core.buckets import Bucket
from b2cal_core.campaign_states import CampaignChange, CampaignState
from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.ports import CampaignStore
from b2cal_core.ranges import ExpRun
from b2cal_core.settings import Catalogue

CAMPAIGN = """
name: prompt
catalogue: r1
base_tags: [main]
target_tag: data_prompt
buckets: {runs: 20}
"""


def small_catalogue() -> Catalogue:
    def fields(name: str, *needs: str) -> dict[str, object]:
        formats = {"input_data_formats": ["raw"], "input_data_names": ["hadron_calib"]}
        return {"name": name, "depends_on": needs, **formats}

    return Catalogue.from_json({"caf_b": fields("B", "A"), "caf_a": fields("A")})


class CampaignStoreContract:
    @pytest.fixture
    def store(self) -> Iterator[CampaignStore]:
        raise NotImplementedError

    def test_a_new_store_has_no_campaign(self, store: CampaignStore) -> None:
        assert store.names() == ()

    def test_a_saved_campaign_is_found_by_name(self, store: CampaignStore) -> None:
        saved = store.save_campaign(CAMPAIGN)
        assert store.names() == ("prompt",)
        assert store.campaign("prompt") == saved
        assert saved.buckets.runs == 20

    def test_saving_again_replaces(self, store: CampaignStore) -> None:
        store.save_campaign(CAMPAIGN)
        store.save_campaign(CAMPAIGN.replace("runs: 20", "runs: 5"))
        assert store.campaign("prompt").buckets.runs == 5

    def test_every_text_is_kept_with_who_gave_it(self, store: CampaignStore) -> None:
        before, second = datetime.now(UTC), CAMPAIGN.replace("runs: 20", "runs: 5")
        store.save_campaign(CAMPAIGN)
        store.save_campaign(second, author="mia")
        versions = store.versions("prompt")
        assert [(version.author, version.text) for version in versions] == [("b2cal", CAMPAIGN), ("mia", second)]
        assert before <= versions[0].when <= versions[1].when <= datetime.now(UTC)
        assert store.versions("other") == ()

    def test_an_unknown_campaign_is_refused_with_the_known_names(self, store: CampaignStore) -> None:
        store.save_campaign(CAMPAIGN)
        with pytest.raises(ConfigurationError, match=r"'promt'.*prompt"):
            store.campaign("promt")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("name: [", "is not YAML"),
            ("- just a list", "keys and values"),
            (CAMPAIGN + "colour: red\n", "colour"),
            (CAMPAIGN.replace("r1", "r9"), "'r9'"),
            (CAMPAIGN + "calibrations: [A, C]\n", "'C'"),
            (CAMPAIGN + "expert_config: {C: {x: 1}}\n", "expert_config.*'C'"),
            (CAMPAIGN + "thresholds: {C: {chi2: {high_fail: 1}}}\n", "thresholds.*'C'"),
            (CAMPAIGN + "failures_of: {C: {tolerance: 0.1}}\n", "failures_of.*'C'"),
            (CAMPAIGN + "calibrations: [A]\nfailures_of: {B: {tolerance: 0.1}}\n", "failures_of.*'B'.*it has A"),
            (CAMPAIGN.replace("[main]", "[]"), "base_tags"),
            (CAMPAIGN.replace("data_prompt", "data prompt"), "data prompt"),
        ],
    )
    def test_a_campaign_that_cannot_work_is_not_kept(self, store: CampaignStore, text: str, says: str) -> None:
        with pytest.raises(ConfigurationError, match=says):
            store.save_campaign(text)
        assert store.names() == ()

    def test_the_catalogue_of_a_release_keeps_dependencies(self, store: CampaignStore) -> None:
        assert store.catalogue("r1").order() == ("A", "B")
        assert store.catalogue("r1").script("B") == "caf_b"

    def test_an_unknown_release_is_refused_with_what_to_do(self, store: CampaignStore) -> None:
        with pytest.raises(ConfigurationError, match="b2cal catalogue import"):
            store.catalogue("r9")
        with pytest.raises(ConfigurationError, match="b2cal catalogue import"):
            store.scripts("r9")

    def test_scripts_of_a_release_are_a_directory(self, store: CampaignStore) -> None:
        assert isinstance(store.scripts("r1"), Path)
        assert store.scripts("r1").is_dir()

    def test_buckets_are_kept_in_order_and_by_campaign(self, store: CampaignStore) -> None:
        second, first = Bucket(ExpRun(12, 21), ExpRun(12, 40), "late"), Bucket(ExpRun(12, 1), ExpRun(12, 20))
        store.add_bucket("prompt", second, closed_by="manager")
        store.add_bucket("prompt", first, closed_by="rule:runs")
        assert store.buckets("prompt") == (first, second)
        assert store.buckets("other") == ()

    def test_the_book_says_who_closed_a_bucket_and_when(self, store: CampaignStore) -> None:
        bucket, before = Bucket(ExpRun(12, 1), ExpRun(12, 20)), datetime.now(UTC)
        store.add_bucket("prompt", bucket, closed_by="manager")
        (entry,) = store.book("prompt")
        assert (entry.bucket, entry.closed_by) == (bucket, "manager")
        assert before <= entry.closed_at <= datetime.now(UTC)
        assert store.book("other") == ()

    def test_the_same_bucket_again_is_harmless_and_keeps_its_label(self, store: CampaignStore) -> None:
        bucket = Bucket(ExpRun(12, 1), ExpRun(12, 20), "first light")
        store.add_bucket("prompt", bucket, closed_by="manager")
        assert store.add_bucket("prompt", Bucket(bucket.first, bucket.last), closed_by="rule:runs") == bucket
        assert store.buckets("prompt") == (bucket,)

    @pytest.mark.parametrize(
        ("first", "last"),
        [((12, 20), (12, 30)), ((11, 1), (12, 1)), ((12, 5), (12, 6)), ((11, 1), (13, 1)), ((12, 1), (12, 19))],
    )
    def test_a_bucket_that_shares_a_run_with_another_is_refused(
        self, store: CampaignStore, first: tuple[int, int], last: tuple[int, int]
    ) -> None:
        bucket = Bucket(ExpRun(12, 1), ExpRun(12, 20))
        store.add_bucket("prompt", bucket, closed_by="manager")
        with pytest.raises(ConflictError, match="e0012r00001-e0012r00020"):
            store.add_bucket("prompt", Bucket(ExpRun(*first), ExpRun(*last)), closed_by="manager")
        assert store.buckets("prompt") == (bucket,)
        store.add_bucket("other", Bucket(ExpRun(*first), ExpRun(*last)), closed_by="manager")

    def change(self, state: CampaignState, name: str = "prompt") -> CampaignChange:
        return CampaignChange(name, state, "ada", f"it is {state}", datetime(2026, 1, 2, 3, 4, tzinfo=UTC))

    def test_a_campaign_is_active_until_its_state_is_changed_and_each_change_is_kept(
        self, store: CampaignStore
    ) -> None:
        assert store.states() == {}
        store.save_campaign(CAMPAIGN)
        assert store.states() == {"prompt": CampaignState.active}
        changes = tuple(map(self.change, (CampaignState.paused, CampaignState.archived)))
        for change in changes:
            store.change_state(change)
        assert store.states() == {"prompt": CampaignState.archived}
        assert store.changes("prompt") == changes
        assert store.changes("other") == ()

    def test_the_state_of_an_unknown_campaign_cannot_be_changed(self, store: CampaignStore) -> None:
        with pytest.raises(ConfigurationError, match="'promt'"):
            store.change_state(self.change(CampaignState.paused, "promt"))
        assert store.changes("promt") == ()

    def test_campaigns_that_write_the_same_tag_are_kept_apart(self, store: CampaignStore) -> None:
        store.save_campaign(CAMPAIGN)
        second = CAMPAIGN.replace("name: prompt", "name: second")
        with pytest.raises(ConfigurationError, match="prompt publishes to data_prompt already"):
            store.save_campaign(second)
        store.change_state(self.change(CampaignState.archived))
        store.save_campaign(second)
        with pytest.raises(ConfigurationError, match="second publishes to data_prompt already"):
            store.change_state(self.change(CampaignState.active))
        assert store.states() == {"prompt": CampaignState.archived, "second": CampaignState.active}
