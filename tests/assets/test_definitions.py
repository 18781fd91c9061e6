"""The code location: it loads, with what is there, and quickly."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import yaml
from asset_fakes import Laboratory, campaign_text

from b2cal_assets.asset_keys import CDST_RUNS, RAW_RUNS, Part, bucket_runs_key, calibration_key
from b2cal_assets.campaign_assets import run_tags
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.definitions import build_definitions, defs, reference_plan
from b2cal_assets.instance_settings import SETTINGS, prepare_dagster_home
from b2cal_caf.scripts import read_catalogue
from b2cal_core.campaigns import Campaign, CampaignKind
from b2cal_core.errors import CatalogueError
from b2cal_core.settings import Catalogue
from resources.home import HOME_VARIABLE, Home

MakeLaboratory = Callable[..., Laboratory]
ROOT = Path(__file__).parents[2]
PROMPT_CATALOGUE = ROOT / "tests" / "data" / "prompt_catalogue.json"


def prompt_plan(directory: Path) -> CampaignPlan:
    catalogue = Catalogue.from_json(json.loads(PROMPT_CATALOGUE.read_text()))
    campaign = Campaign(name="all", catalogue="prompt", base_tags=("base",), target_tag="target")
    return CampaignPlan(campaign, catalogue, directory).checked()


def test_a_home_without_campaigns_shows_the_packaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "none"))
    definitions = defs()
    dg.Definitions.validate_loadable(definitions)
    assert definitions.resolve_job_def("prompt_bucket").partitions_def is not None
    assert not (tmp_path / "none").exists()


def test_the_packaged_catalogue_says_what_the_packaged_scripts_say() -> None:
    plan = reference_plan()
    assert plan.catalogue.to_json() == read_catalogue(plan.scripts).to_json()


def test_the_catalogue_of_27_scripts_is_one_graph(tmp_path: Path) -> None:
    definitions = build_definitions(Home(tmp_path), plans=[prompt_plan(tmp_path)])
    dg.Definitions.validate_loadable(definitions)
    keys = definitions.resolve_all_asset_keys()
    assert len(keys) == 27 * len(Part) + 3 + 2


def test_campaigns_over_the_same_calibrations_live_side_by_side(tmp_path: Path) -> None:
    first = prompt_plan(tmp_path)
    change = {"name": "other", "kind": CampaignKind.recalibration, "target_tag": "other"}
    second = replace(first, campaign=first.campaign.model_copy(update=change))
    definitions = build_definitions(Home(tmp_path), plans=[first, second])
    dg.Definitions.validate_loadable(definitions)
    groups = Counter(spec.group_name for spec in definitions.resolve_all_asset_specs())
    assert (groups["all_cdc"], groups["other_cdc"]) == (len(Part), len(Part))
    assert len(groups) == 2 * (27 + len(("runs", "cdst", "published"))) + 1
    jobs = [definitions.resolve_job_def(f"{plan.name}_collect_ahead") for plan in (first, second)]
    assert not {node.name for node in jobs[0].nodes} & {node.name for node in jobs[1].nodes}


def test_a_calibration_is_the_more_urgent_the_more_steps_follow_it(tmp_path: Path) -> None:
    plan = prompt_plan(tmp_path)
    last = [name for name in plan.calibrations if plan.priority(name) == 0]
    assert {plan.catalogue[name].stage for name in last} == {"cdst"}
    for name in plan.calibrations:
        assert all(plan.priority(needed) > plan.priority(name) for needed in plan.upstream(name))
    assert min(map(plan.priority, plan.raw_stage)) > plan.priority("cdst") > max(map(plan.priority, plan.cdst_stage))
    higher = replace(plan, campaign=plan.campaign.model_copy(update={"priority": 2}))
    assert all(higher.priority(name) == 200 + plan.priority(name) for name in plan.calibrations)


def test_dagster_runs_say_which_campaign_they_are_of_and_whether_they_are_done_on_the_side(tmp_path: Path) -> None:
    plan = prompt_plan(tmp_path)
    assert run_tags(plan) == {"b2cal/campaign": "all", "dagster/priority": "0"}
    kind = {"kind": CampaignKind.recalibration, "priority": -3}
    other = replace(plan, campaign=plan.campaign.model_copy(update=kind))
    on_the_side = {"b2cal/background": "recalibration"}
    assert run_tags(other) == {"b2cal/campaign": "all", "dagster/priority": "-3", **on_the_side}


def test_every_asset_of_a_campaign_has_group_owner_description_and_kind(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    definitions = build_definitions(lab.home, workshop=lab.workshop())
    dg.Definitions.validate_loadable(definitions)
    specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs() if spec.key.path[0] == "prompt"}
    assert set(specs) == {*lab.plan.asset_keys(), bucket_runs_key("prompt")}
    assert all(spec.description and spec.owners for spec in specs.values())
    payloads = specs[calibration_key("prompt", "CDC Tracking", Part.payloads)]
    assert payloads.owners == ["team:ada"]
    assert {"root", "conditions"} <= payloads.kinds
    assert payloads.code_version is not None
    assert payloads.tags["subsystem"] == "cdc"


def test_each_calibration_is_a_group_named_by_its_script_and_the_campaign(tmp_path: Path) -> None:
    plan = prompt_plan(tmp_path)
    assert plan.group("CDC Sigma fudge factor") == "all_cdc_fudgefactor"
    assert [plan.group(step) for step in ("runs", "cdst", "published")] == ["all_runs", "all_cdst", "all_published"]
    specs = build_definitions(Home(tmp_path), plans=[plan]).resolve_all_asset_specs()
    for name in plan.calibrations:
        keys = {calibration_key("all", name, part) for part in Part}
        assert {spec.key for spec in specs if spec.group_name == plan.group(name)} == keys


def test_what_reads_registered_mdst_files_waits_for_no_cdst_production(tmp_path: Path) -> None:
    plan = prompt_plan(tmp_path)
    graph = build_definitions(Home(tmp_path), plans=[plan]).resolve_asset_graph()
    collected = calibration_key("all", "ecl_cluster_energy", Part.collector_output)
    assert graph.get(collected).parent_keys == {bucket_runs_key("all")}
    campaign = plan.campaign.model_copy(update={"calibrations": ("ecl_cluster_energy",)})
    alone = replace(plan, campaign=campaign).checked()
    assert dg.AssetKey(["all", "cdst"]) not in alone.asset_keys()


def test_lineage_leads_from_runs_over_gates_to_what_is_published(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    graph = build_definitions(lab.home, workshop=lab.workshop()).resolve_asset_graph()
    published = dg.AssetKey(["prompt", "published"])
    cdst = dg.AssetKey(["prompt", "cdst"])
    assert calibration_key("prompt", "eCMS", Part.sign_off) in graph.get(published).parent_keys
    assert calibration_key("prompt", "SVD time", Part.sign_off) in graph.get(cdst).parent_keys
    first = graph.get(calibration_key("prompt", "SVD time", Part.collector_output)).parent_keys
    assert graph.get(bucket_runs_key("prompt")).parent_keys == {RAW_RUNS, CDST_RUNS}
    assert first == {
        bucket_runs_key("prompt"),
        calibration_key("prompt", "CDC Tracking", Part.payloads),
        calibration_key("prompt", "CDC Tracking", Part.validation),
    }


def test_a_broken_campaign_is_shown_with_its_error_and_the_others_stay_up(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    (lab.home.campaigns / "odd.yaml").write_text("name: odd\ncatalogue: test\nbase_tags: [base]\n")
    (lab.home.campaigns / "stale.yaml").write_text(
        campaign_text().replace("name: prompt", "name: stale").replace("catalogue: test", "catalogue: gone")
    )
    definitions = build_definitions(lab.home, workshop=lab.workshop())
    dg.Definitions.validate_loadable(definitions)
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    assert "target_tag: Field required" in str(specs["odd/broken"].description)
    assert "there is no catalogue of release 'gone'" in str(specs["stale/broken"].description)
    assert "prompt/published" in specs


def test_a_raw_stage_calibration_must_not_need_a_later_stage(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    scripts = lab.plan.catalogue.to_json()
    scripts["caf_cdc"]["depends_on"] = ["BeamSpot"]
    with pytest.raises(CatalogueError, match="'CDC Tracking' of the raw stage depends on 'BeamSpot'"):
        CampaignPlan(lab.plan.campaign, Catalogue.from_json(scripts), lab.plan.scripts).checked()


@pytest.mark.parametrize("word", ["CDC Tracking", "cdc_tracking", "caf_cdc"])
def test_what_is_set_for_a_calibration_counts_under_each_of_its_names(laboratory: MakeLaboratory, word: str) -> None:
    plan = laboratory(campaign={"failures_of": {word: {"tolerance": 0.2}}}).plan
    assert plan.campaign.failure_policy("CDC Tracking").tolerance == 0.2


def test_a_calibration_left_out_is_bridged_in_the_lineage(laboratory: MakeLaboratory) -> None:
    lab = laboratory()
    scripts = lab.plan.catalogue.to_json()
    scripts["caf_ecms"]["depends_on"] = ["TOP T0"]
    scripts["caf_top"]["depends_on"] = ["BeamSpot"]
    campaign = lab.plan.campaign.model_copy(update={"calibrations": ("BeamSpot", "eCMS")})
    plan = CampaignPlan(campaign, Catalogue.from_json(scripts), lab.plan.scripts).checked()
    assert plan.nearest("eCMS") == ("BeamSpot",)


def test_the_files_of_the_repository_root_agree_with_a_home_made_by_commands(tmp_path: Path) -> None:
    own = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    made = yaml.safe_load((prepare_dagster_home(tmp_path / "dagster") / "dagster.yaml").read_text())
    assert made == SETTINGS
    assert {key: own[key] for key in SETTINGS} == SETTINGS
    (location,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert location["python_module"]["module_name"] == "b2cal_assets.definitions"
