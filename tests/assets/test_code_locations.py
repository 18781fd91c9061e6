"""Code locations: one that shows everything, or one for each campaign beside what they share."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import dagster as dg
import pytest
from asset_fakes import BUCKET_1, BUCKET_2, Laboratory, campaign_text
from hypothesis import given
from hypothesis import strategies as st

from b2cal_assets.asset_keys import CDST_RUNS, RAW_RUNS, bucket_runs_key
from b2cal_assets.campaign_assets import bucket_job
from b2cal_assets.code_locations import LOCATION_VARIABLE, SHARED, campaign_of, location_of
from b2cal_assets.definitions import build_definitions, campaign_definitions, defs, shared_definitions
from b2cal_core.campaign_states import CampaignChange, CampaignState
from b2cal_core.errors import ConfigurationError
from resources.home import HOME_VARIABLE
from sensors.new_runs import new_runs_sensor

MakeLaboratory = Callable[..., Laboratory]
REFERRED_TO = "dagster/auto_created_stub_asset"
CAMPAIGN_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True) | st.sampled_from([SHARED, "shared"])


def with_second_campaign(lab: Laboratory) -> Laboratory:
    text = campaign_text().replace("name: prompt", "name: second").replace("prompt_target", "second_target")
    lab.store.save_campaign(text)
    return lab


def sensors(definitions: dg.Definitions) -> set[str]:
    return {sensor.name for sensor in definitions.get_repository_def().sensor_defs}


def keys(definitions: Iterable[dg.Definitions]) -> list[dg.AssetKey]:
    """Of the assets that these define, one defined twice twice; what they only refer to is left out."""
    specs = [spec for one in definitions for spec in one.resolve_all_asset_specs()]
    return sorted(spec.key for spec in specs if REFERRED_TO not in spec.metadata)


@given(CAMPAIGN_NAMES)
def test_no_campaign_takes_the_location_of_another_or_the_shared_one(campaign: str) -> None:
    assert campaign_of(location_of(campaign)) == campaign
    assert location_of(campaign) != SHARED
    assert campaign_of(SHARED) is None


@pytest.mark.parametrize("location", ["prompt", "b2cal-", "b2calprompt", ""])
def test_a_name_of_no_location_is_refused_with_those_that_can_be_meant(location: str) -> None:
    with pytest.raises(ConfigurationError, match="must be b2cal, b2cal-CAMPAIGN, or not set at all"):
        campaign_of(location)


def test_the_locations_together_show_what_one_would_and_each_of_it_once(laboratory: MakeLaboratory) -> None:
    lab = with_second_campaign(laboratory(campaign={"collect_ahead": True}))
    parts = [shared_definitions(lab.home), *(campaign_definitions(lab.home, name) for name in ("prompt", "second"))]
    for part in parts:
        dg.Definitions.validate_loadable(part)
    assert keys(parts) == keys([build_definitions(lab.home)])
    assert keys(parts[:1]) == [CDST_RUNS, RAW_RUNS]
    jobs = [sorted(job.name for job in part.resolve_all_job_defs() if "__" not in job.name) for part in parts]
    assert jobs == [[], ["prompt_bucket", "prompt_collect_ahead"], ["second_bucket"]]
    assert [sensors(part) for part in parts] == [{"new_runs", "notices", "impact_tables"}, *[{"new_runs", "gates"}] * 2]


def test_a_campaign_refers_to_the_runs_that_the_shared_location_has(laboratory: MakeLaboratory) -> None:
    graph = campaign_definitions(laboratory().home, "prompt").resolve_asset_graph()
    assert graph.get(bucket_runs_key("prompt")).parent_keys == {RAW_RUNS, CDST_RUNS}


def test_the_environment_says_which_location_is_loaded(
    laboratory: MakeLaboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = with_second_campaign(laboratory())
    monkeypatch.setenv(HOME_VARIABLE, str(lab.home.path))
    assert {"runs", "prompt", "second"} == {key.path[0] for key in keys([defs()])}
    monkeypatch.setenv(LOCATION_VARIABLE, SHARED)
    assert {"runs"} == {key.path[0] for key in keys([defs()])}
    monkeypatch.setenv(LOCATION_VARIABLE, location_of("second"))
    assert {"second"} == {key.path[0] for key in keys([defs()])}
    monkeypatch.setenv(LOCATION_VARIABLE, "second")
    with pytest.raises(ConfigurationError, match="B2CAL_LOCATION is 'second'"):
        defs()


def test_the_location_of_an_archived_campaign_is_empty(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    lab.store.change_state(CampaignChange("prompt", CampaignState.archived, "ada", "over", datetime.now(UTC)))
    definitions = campaign_definitions(lab.home, "prompt")
    dg.Definitions.validate_loadable(definitions)
    assert keys([definitions]) == []
    assert sensors(definitions) == set()


def test_a_campaign_that_is_not_there_or_cannot_be_read_says_so_in_its_own_location(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    (lab.home.campaigns / "odd.yaml").write_text("name: odd\n")
    for name, problem in {"odd": "catalogue: Field required", "gone": "no campaign is called 'gone'"}.items():
        (spec,) = campaign_definitions(lab.home, name).resolve_all_asset_specs()
        assert spec.key == dg.AssetKey([name, "broken"])
        assert problem in str(spec.description)
    assert sensors(shared_definitions(lab.home)) == {"new_runs", "notices", "impact_tables"}


def test_runs_are_registered_in_one_location_and_make_buckets_in_that_of_their_campaign(
    laboratory: MakeLaboratory,
) -> None:
    lab = laboratory(runs=9)
    own = new_runs_sensor([lab.plan], [bucket_job(lab.plan, dg.in_process_executor)], registers=False)
    resources = {"workshop": lab.workshop()}
    with dg.build_sensor_context(instance=lab.instance, resources=resources) as context:
        answer = own(context)
    assert isinstance(answer, dg.SensorResult)
    assert [request.partition_key for request in answer.run_requests or ()] == [BUCKET_1.key, BUCKET_2.key]
    assert lab.store.buckets("prompt") == (BUCKET_1, BUCKET_2)
    assert lab.instance.get_dynamic_partitions("runs") == []
    with dg.build_sensor_context(instance=lab.instance, resources=resources) as context:
        answer = new_runs_sensor([], [])(context)
    assert isinstance(answer, dg.SensorResult)
    assert not answer.run_requests
    assert len(lab.instance.get_materialized_partitions(RAW_RUNS)) == 9
    with dg.build_sensor_context(instance=lab.instance, resources=resources, cursor=answer.cursor) as context:
        again = new_runs_sensor([], [])(context)
    assert isinstance(again, dg.SensorResult)
    assert again.skip_reason is not None
