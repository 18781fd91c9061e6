"""A bucket is branched, worked aside with a fake CAF, compared, and kept or dropped; all else is real."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asset_fakes import BUCKET_1, TARGET, FakeCaf, FakeValidation, Laboratory, payload_names
from lab_commands import CommandLine

from b2cal_assets.bucket_ledger import BucketLedger
from b2cal_assets.bucket_runs import BucketRunner, quiet_instance
from b2cal_assets.campaign_plans import CampaignPlan
from b2cal_assets.instance_settings import prepare_dagster_home
from b2cal_cli.session import WrongUsage
from b2cal_cli.what_if_branching import make_branch, read_branch
from b2cal_cli.what_if_comparing import Comparison, compare_branch
from b2cal_cli.what_if_keeping import with_expert_config
from b2cal_core.campaign_states import CampaignState
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState
from b2cal_core.redo import Redo
from b2cal_core.settings import Catalogue
from b2cal_core.what_if import WhatIf
from resources.home import Home

BRANCH = "prompt_loose"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Laboratory]:
    """The first bucket with its raw stage, not published; Dagster's record is that of the home, as commands read it."""
    home = Home(tmp_path / "home").create()
    with quiet_instance(prepare_dagster_home(home.dagster_home)) as instance:
        made = Laboratory(tmp_path, instance, campaign={"calibrations": ["CDC Tracking", "SVD time"]})
        made.book(BUCKET_1)
        runner = BucketRunner(made.plan, made.workshop(), instance=instance)
        outcome = runner.work(BUCKET_1, only=made.plan.calibrations)
        assert outcome.failed == {}
        yield made


def what_if(**fields: Any) -> WhatIf:
    return WhatIf.checked(campaign="prompt", bucket=BUCKET_1.key, name="loose", **fields)


def work(
    lab: Laboratory, change: WhatIf, values: dict[str, float], pulls: dict[str, float] | None = None
) -> Comparison:
    """Make the branch and work it where the CAF finds these values, and compare."""
    make_branch(lab.home, change, author="mia")
    lab.caf, lab.validation = FakeCaf(payload_names(), values=values), FakeValidation(pulls)
    plan = CampaignPlan.read(lab.store, change.branch)
    outcome = BucketRunner(plan, lab.workshop(), instance=lab.instance).work(BUCKET_1, only=plan.calibrations)
    assert outcome.failed == {}
    return compare_branch(lab.home, change)


def test_what_differs_is_told_in_units_of_the_stated_errors_with_the_verdicts_of_both_sides(lab: Laboratory) -> None:
    change = what_if(expert_config={"SVD time": {"minimum": 50}})
    found = work(lab, change, {"SVDTimes": 1.3}, {"val_svd": 3.0})
    (constant,) = found.constants
    assert (constant.payload, constant.iov, constant.column) == ("SVDTimes", BUCKET_1.iov, "value")
    assert (constant.old, constant.new) == (1.0, pytest.approx(1.3))
    assert constant.errors == pytest.approx(3.0)
    assert found.unchanged == 1
    figures = {one.calibration: (one.old, one.old_verdict, one.new, one.new_verdict) for one in found.figures}
    assert figures["SVD time"] == (0.0, "pass", 3.0, "warn")
    assert figures["CDC Tracking"] == (0.0, "pass", 0.0, "pass")
    asked = {request.script.stem: request.expert_config["minimum"] for request in lab.caf.requests}
    assert asked == {"caf_svd": 50, "caf_cdc": 100}


def test_the_original_is_left_as_it_was_and_the_branch_has_tags_of_its_own(lab: Laboratory) -> None:
    tag = lab.plan.staging_tag(BUCKET_1)
    before = lab.conditions.fingerprint(tag), lab.store.campaign_text("prompt")
    work(lab, what_if(), {"SVDTimes": 2.0})
    assert (lab.conditions.fingerprint(tag), lab.store.campaign_text("prompt")) == before
    assert lab.conditions.get_tag(TARGET) is None
    branch = lab.store.campaign(BRANCH)
    assert lab.conditions.get_tag(branch.target_tag) is None
    assert lab.conditions.get_tag(branch.staging_tag_of(BUCKET_1)) is not None
    assert lab.store.states()[BRANCH] is CampaignState.paused


def test_runs_are_left_out_and_what_rejections_asked_for_holds_in_the_branch_too(lab: Laboratory) -> None:
    work(lab, what_if(excluded_runs=((12, 2),), only=("CDC Tracking",)), {})
    (request,) = lab.caf.requests
    assert [run.run for _, run in request.input_data["hadron_calib"]] == [1, 3, 4]
    make_branch(lab.home, what_if(excluded_runs=((12, 2),), only=("CDC Tracking",)), author="mia")
    assert len(lab.sign_offs.decisions(BRANCH)) == 2  # the instruction once, and the rule's acceptance


def test_a_bucket_without_results_and_a_name_that_is_taken_are_refused(lab: Laboratory) -> None:
    other = WhatIf.checked(campaign="prompt", bucket="e0012r00005-e0012r00008", name="loose")
    with pytest.raises(WrongUsage, match="there is nothing to compare with: CDC Tracking, SVD time"):
        make_branch(lab.home, other, author="mia")
    assert read_branch(lab.home, BRANCH) is None
    assert lab.store.names() == ("prompt",)
    make_branch(lab.home, what_if(), author="mia")
    with pytest.raises(WrongUsage, match="made with other settings"):
        make_branch(lab.home, what_if(excluded_runs=((12, 1),)), author="mia")
    text = lab.store.campaign_text("prompt").replace("name: prompt", "name: prompt_other")
    lab.store.save_campaign(text.replace("prompt_target", "other"))
    with pytest.raises(WrongUsage, match="a campaign prompt_other that is no branch"):
        make_branch(lab.home, WhatIf.checked(campaign="prompt", bucket=BUCKET_1.key, name="other"), author="mia")


class Branches(CommandLine):
    """With the commands of one branch."""

    def bucket(self, verb: str, *options: str, code: int = 0) -> str:
        return self("bucket", verb, "prompt", BUCKET_1.key, "--name", "loose", *options, code=code)

    def has_branch(self) -> bool:
        return any(self._home.glob("what_if/*"))


@pytest.fixture
def b2cal(lab: Laboratory, capsys: pytest.CaptureFixture[str]) -> Branches:
    return Branches(lab, capsys)


def redo_of(lab: Laboratory, calibration: str) -> Redo:
    ledger = BucketLedger(lab.plan, BUCKET_1, instance=lab.instance, sign_offs=lab.sign_offs)
    return ledger.redo(calibration) if ledger.awaits_redo(calibration) else Redo()


def test_a_comparison_is_a_table_and_a_page_with_the_plots_of_both_sides(lab: Laboratory, b2cal: Branches) -> None:
    work(lab, what_if(expert_config={"SVD time": {"minimum": 50}}), {"SVDTimes": 1.3})
    shown = b2cal.bucket("compare")
    assert "SVDTimes" in shown
    assert "1 payloads are the same" in shown
    answer = json.loads(b2cal.bucket("compare", "--json"))
    assert [line["difference"] for line in answer["constants"]] == [pytest.approx(0.3)]
    page = Path(answer["page"]).read_text()
    assert "SVD time: minimum = 50" in page
    assert page.count("data:image/png;base64,") == 2 * 2


def test_keeping_a_branch_writes_its_settings_and_has_the_bucket_redone_with_them(
    lab: Laboratory, b2cal: Branches
) -> None:
    work(lab, what_if(expert_config={"SVD time": {"minimum": 50}}, release="test"), {"SVDTimes": 1.3})
    said = b2cal.bucket("keep", "--reason", "more precise", "--author", "mia")
    assert "to be redone: SVD time" in said
    assert "catalogue: test" in said
    assert lab.store.campaign("prompt").expert_config == {"SVD time": {"minimum": 50}}
    assert lab.store.campaign_text("prompt").startswith("\nname: prompt\n")
    assert redo_of(lab, "SVD time") == Redo(expert_config={"minimum": 50})
    assert redo_of(lab, "CDC Tracking").is_empty
    assert lab.store.states()[BRANCH] is CampaignState.archived
    assert "was kept or dropped" in b2cal.bucket(
        "what-if", "--release", "test", "--expert-config", "caf_svd:minimum=50", code=2
    )


def test_a_published_bucket_keeps_its_constants_and_the_settings_count_for_later_ones(
    lab: Laboratory, b2cal: Branches
) -> None:
    work(lab, what_if(expert_config={"SVD time": {"minimum": 50}}), {"SVDTimes": 1.3})
    assert BucketRunner(lab.plan, lab.workshop(), instance=lab.instance).work(BUCKET_1).ok
    kept = json.loads(b2cal.bucket("keep", "--reason", "more precise", "--json"))
    assert kept["to_be_redone"] == []
    assert "is published" in kept["by_hand"][0]
    assert lab.store.campaign("prompt").expert_config == {"SVD time": {"minimum": 50}}
    tag = lab.conditions.get_tag(lab.plan.staging_tag(BUCKET_1))
    assert tag is not None
    assert tag.state is TagState.VALIDATED


def test_excluded_runs_are_kept_as_what_the_redo_leaves_out(lab: Laboratory, b2cal: Branches) -> None:
    work(lab, what_if(excluded_runs=((12, 2),), only=("CDC Tracking",)), {})
    b2cal.bucket("keep", "--reason", "bad run")
    assert redo_of(lab, "CDC Tracking") == Redo(excluded_runs=((12, 2),))
    assert lab.store.campaign("prompt").expert_config == {}


def test_dropping_a_branch_archives_it_and_changes_nothing_else(lab: Laboratory, b2cal: Branches) -> None:
    work(lab, what_if(expert_config={"SVD time": {"minimum": 50}}), {"SVDTimes": 1.3})
    before = lab.store.campaign_text("prompt")
    said = json.loads(b2cal.bucket("drop", "--reason", "worse", "--json"))
    assert said == {"branch": BRANCH, "state": "archived", "staging_tag": f"what_if_{BRANCH}_{BUCKET_1.key}"}
    assert lab.store.campaign_text("prompt") == before
    assert redo_of(lab, "SVD time").is_empty
    assert [change.reason for change in lab.store.changes(BRANCH)][-1] == "dropped: worse"


def test_what_cannot_be_read_or_is_not_there_is_wrong_usage(b2cal: Branches) -> None:
    problems = {
        ("--expert-config", "SVD time=5"): "--expert-config takes CALIBRATION:KEY=VALUE",
        ("--expert-config", "SVD time:nonsense=5"): "has no key nonsense",
        ("--expert-config", "nonsense:minimum=5"): "no calibration is called 'nonsense'",
        ("--expert-config", "SVD time:minimum=many"): "minimum is a number in its script",
        ("--exclude-run", "12"): "--exclude-run takes a run as EXP:RUN",
        ("--exclude-run", "12:99"): "has no run 12:99 to leave out; its runs are 12/1 to 12/4",
        (): "say what is different in the branch",
        ("--only", "SVD time"): "say what is different in the branch",
        ("--release", "nowhere"): "there is no catalogue of release 'nowhere'",
    }
    for options, problem in problems.items():
        assert problem in b2cal.bucket("what-if", *options, code=2)
    assert not b2cal.has_branch()
    assert "has no branch 'loose'; make one: b2cal bucket what-if" in b2cal.bucket("compare", code=2)


CATALOGUE = Catalogue.from_json(
    {
        f"caf_{name.lower()}": {"name": name, "input_data_formats": ["raw"], "input_data_names": ["d"]}
        for name in ("A", "B")
    }
)
CHANGE = {"A": {"cut": 2}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("name: x # mine\n", "name: x # mine\nexpert_config:\n  A:\n    cut: 2\n"),
        (
            "expert_config: {caf_a: {cut: 1, n: 3}}\nname: x\n",
            "expert_config:\n  caf_a:\n    cut: 2\n    n: 3\nname: x\n",
        ),
        (
            "expert_config:\n  # old\n  B: {cut: 1}\n\n# what follows\nname: x",
            "expert_config:\n  B:\n    cut: 1\n  A:\n    cut: 2\nname: x",
        ),
    ],
)
def test_settings_are_written_into_a_campaigns_file_and_all_else_stays(before: str, after: str) -> None:
    assert with_expert_config(before, CHANGE, CATALOGUE) == after


def test_a_file_that_cannot_be_changed_safely_is_left_to_people() -> None:
    with pytest.raises(ConfigurationError, match="set its expert_config to"):
        with_expert_config("{name: x, expert_config: {}}", CHANGE, CATALOGUE)
