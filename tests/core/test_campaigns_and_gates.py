"""Campaign files, verdicts, decisions, gates, and the states of tags."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Campaign, CampaignKind, Gate
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.gates import CalibrationStanding, check_gate, check_order
from b2cal_core.jobs import JobStatus
from b2cal_core.payloads import TRANSITIONS, TagState, check_tag_name
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.settings import Catalogue
from b2cal_core.verdicts import Decision, Figure, SignOff, SignOffRule, Threshold, Verdict, standing

REAL = Catalogue.from_json(json.loads((Path(__file__).parents[1] / "data" / "prompt_catalogue.json").read_text()))
MINIMAL = {"name": "prompt", "catalogue": "reference", "base_tags": ["main"], "target_tag": "running"}
BUCKET = Bucket(ExpRun(12, 1), ExpRun(12, 20))


def test_a_minimal_campaign_has_sound_defaults() -> None:
    campaign = Campaign.from_mapping(MINIMAL)
    assert campaign.staging_tag_of(BUCKET) == "staging_prompt_e0012r00001-e0012r00020"
    other = Campaign.from_mapping(MINIMAL | {"staging_tag": "user_ada_{bucket}"})
    assert other.staging_tag_of(BUCKET) == "user_ada_e0012r00001-e0012r00020"
    assert campaign.gates.downstream is Gate.verdict
    assert campaign.gates.publish is Gate.sign_off
    assert campaign.calibrations_of(REAL) == REAL.order()
    assert campaign.takes(ExpRun(0, 0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "Prompt!"}, "name"),
        ({"name": "runs"}, "name: .*own assets are called runs; choose another"),
        ({"name": "local"}, "name: .*own assets are called local; choose another"),
        ({"target_tag": "a b"}, "letters, digits"),
        ({"base_tags": []}, "base_tags"),
        ({"base_tags": ["ma in"]}, "letters, digits"),
        ({"staging_tag": "staging"}, "must contain {bucket}"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"buckets": {"runs": 0}}, "buckets.runs"),
        ({"update_mode": "force"}, "update_mode"),
        ({"staging_tag": "{bucket}_{when}"}, r"staging_tag: .*may name {campaign} and {bucket} only"),
        ({"staging_tag": "{bucket} x"}, "letters, digits"),
        ({"base_tags": ["main", "main"]}, "main is listed more than once"),
        ({"calibrations": []}, "calibrations"),
        ({"first_run": [12, 5], "last_run": [12, 4]}, r"last_run \(exp 12 run 4\) lies before"),
        ({"first_run": [-1, 5]}, "count from 0"),
        ({"thresholds": {"A": {"pull": {"high_warn": 3, "high_fail": 2}}}}, "must not fall"),
        ({"thresholds": {"A": {"pull": {"high": 3}}}}, "has the bounds low_fail, .*, not high"),
    ],
)
def test_a_campaign_that_cannot_work_names_the_key(change: dict, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Campaign.from_mapping(MINIMAL | change, "prompt.yaml")


@pytest.mark.parametrize(
    ("fields", "priority"),
    [
        ({}, 0),
        ({"kind": "prompt"}, 0),
        ({"kind": "recalibration"}, -10),
        ({"kind": CampaignKind.run_dependent_mc}, -10),
        ({"kind": "recalibration", "priority": 3}, 3),
        ({"priority": -1}, -1),
    ],
)
def test_a_campaign_that_says_nothing_of_its_priority_comes_after_prompt(fields: dict, priority: int) -> None:
    campaign = Campaign.from_mapping(MINIMAL | fields)
    assert campaign.priority == priority
    assert Campaign.from_mapping(campaign.model_dump(mode="json")) == campaign


def test_what_is_no_mapping_or_has_no_kind_that_there_is_is_no_campaign() -> None:
    with pytest.raises(ValidationError, match="valid dictionary"):
        Campaign.model_validate([1])
    with pytest.raises(ConfigurationError, match="kind: Input should be 'prompt'"):
        Campaign.from_mapping(MINIMAL | {"kind": ["prompt"]})


def test_calibrations_are_asked_for_by_any_name_and_ordered() -> None:
    campaign = Campaign.from_mapping(
        MINIMAL | {"calibrations": ["caf_beamspot", "CDC dedx", "top_pre_tracking_calibration"]}
    )
    assert campaign.calibrations_of(REAL) == ("CDC dedx", "TOP pre-tracking calibration", "BeamSpot Calibrations")


def test_what_a_campaign_sets_for_calibrations_is_kept_under_their_own_names() -> None:
    mapping = MINIMAL | {
        "expert_config": {"caf_boostvector": {"minPXDhits": 2}},
        "thresholds": {"cdc_tracking": {"pull": {"high_fail": 2}}},
    }
    fitted = Campaign.from_mapping(mapping).fitted_to(REAL)
    assert fitted.expert_config == {"BoostVector Calibrations": {"minPXDhits": 2}}
    assert fitted.thresholds == {"CDC Tracking": {"pull": {"high_fail": 2}}}
    assert fitted.fitted_to(REAL) == fitted


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"expert_config": {"caf_boost": {}}}, "expert_config: no calibration is called 'caf_boost'"),
        ({"thresholds": {"caf_boost": {}}}, "thresholds: no calibration is called 'caf_boost'"),
        ({"calibrations": ["caf_cdc"], "expert_config": {"caf_beamspot": {}}}, "'caf_beamspot' is no calibration of"),
        ({"calibrations": ["caf_cd"]}, "no calibration is called 'caf_cd'"),
        ({"expert_config": {"caf_cdc": {}, "CDC Tracking": {}}}, "'CDC Tracking' twice"),
        ({"expert_config": {"caf_boostvector": {"minPxdHits": 2}}}, "has no key minPxdHits; it has .*minPXDhits"),
        ({"expert_config": {"caf_arich": {"x": 2}}}, "has no key x; it has none"),
        ({"gates": {"deputies": [{"expert": "adaa", "deputy": "b"}]}}, "'adaa' is no expert of the catalogue"),
    ],
)
def test_what_a_campaign_sets_must_exist_in_its_catalogue(change: dict, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Campaign.from_mapping(MINIMAL | change).fitted_to(REAL)


def test_a_campaign_takes_runs_in_its_range() -> None:
    campaign = Campaign.from_mapping(MINIMAL | {"first_run": [12, 5], "last_run": [13, 2]})
    taken = [run for run in (ExpRun(12, 4), ExpRun(12, 5), ExpRun(13, 2), ExpRun(13, 3)) if campaign.takes(run)]
    assert taken == [ExpRun(12, 5), ExpRun(13, 2)]
    assert campaign.iov == IoV(12, 5, 13, 2)
    assert Campaign.from_mapping(MINIMAL).iov == IoV(0, 0, -1, -1)


def test_no_bucket_follows_the_one_in_which_the_runs_of_a_campaign_end_or_the_last_whole_experiment() -> None:
    bucket, whole = Bucket(ExpRun(13, 1), ExpRun(13, 5)), {"buckets": {"whole_experiments": True}}
    ends = {
        last: [Campaign.from_mapping(MINIMAL | more | {"last_run": last}).ends_in(bucket) for more in ({}, whole)]
        for last in (None, (12, 9), (13, 5), (13, 6), (14, 1))
    }
    assert ends == {
        None: [False, False],
        (12, 9): [True, True],
        (13, 5): [True, True],
        (13, 6): [False, True],
        (14, 1): [False, False],
    }


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (0, "pass"),
        (1, "pass"),
        (1.5, "warn"),
        (2, "warn"),
        (2.1, "fail"),
        (-1.5, "warn"),
        (-3, "fail"),
        (float("nan"), "fail"),
    ],
)
def test_a_threshold_grades_with_closed_intervals(value: float, verdict: str) -> None:
    threshold = Threshold.from_json({"low_fail": -2, "low_warn": -1, "high_warn": 1, "high_fail": 2})
    assert Figure("x", value, threshold).verdict == verdict


def test_a_figure_can_be_judged_by_another_threshold() -> None:
    figure = Figure("x", 5.0, Threshold())
    assert figure.with_threshold(None) is figure
    assert figure.with_threshold(Threshold(high_fail=1)).verdict is Verdict.fail


@given(st.lists(st.sampled_from(list(Verdict))))
def test_the_worst_verdict_is_one_of_them_and_none_is_worse(verdicts) -> None:
    worst = Verdict.worst(verdicts)
    assert worst in verdicts or (not verdicts and worst is Verdict.passed)
    assert (Verdict.fail in verdicts) == (worst is Verdict.fail)


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [(SignOffRule.manual, []), (SignOffRule.all_pass, ["pass"]), (SignOffRule.none_fail, ["pass", "warn"])],
)
def test_rules_accept_by_verdict(rule: SignOffRule, accepted: list[str]) -> None:
    assert [verdict.value for verdict in Verdict if rule.accepts(verdict)] == accepted


def test_the_bounds_of_a_threshold_are_in_order() -> None:
    with pytest.raises(ConfigurationError, match="got low_fail 1, high_fail 0"):
        Threshold(low_fail=1, high_fail=0)
    with pytest.raises(ConfigurationError, match="must not fall"):
        Threshold(high_warn=float("nan"))
    assert Threshold(low_warn=1, high_warn=1).grade(1) is Verdict.passed


def decide(decision: Decision, evidence: str = "abc", author: str = "ada") -> SignOff:
    when = datetime(2026, 3, 1, tzinfo=UTC)
    return SignOff("prompt", BUCKET.key, "cdc_tracking", decision, author, "looks off", evidence, when)


def test_the_last_decision_over_the_same_content_stands() -> None:
    accepted, rejected = decide(Decision.accepted), decide(Decision.rejected)
    assert standing([accepted, rejected], "abc") is rejected
    assert standing([rejected, accepted], "abc") is accepted
    assert standing([accepted], "other") is None
    assert accepted.subject == ("prompt", BUCKET.key, "cdc_tracking")


def test_a_rule_never_overrides_a_person_but_a_person_overrides_a_rule() -> None:
    by_rule = decide(Decision.accepted, author="rule:all_pass")
    rejected = decide(Decision.rejected)
    assert standing([rejected, by_rule], "abc") is rejected
    assert standing([by_rule, rejected], "abc") is rejected
    assert standing([by_rule], "abc") is by_rule


@pytest.mark.parametrize(
    ("gate", "state", "says"),
    [
        (Gate.verdict, {"has_payloads": False}, "no payloads yet"),
        (Gate.verdict, {"has_payloads": True}, ""),
        (Gate.verdict, {"has_payloads": True, "verdict": Verdict.warn}, ""),
        (Gate.verdict, {"has_payloads": True, "verdict": Verdict.fail}, "validation of CDC Tracking failed"),
        (Gate.verdict, {"has_payloads": True, "sign_off": decide(Decision.rejected)}, "; redo it: b2cal bucket run"),
        (
            Gate.verdict,
            {"has_payloads": True, "sign_off": decide(Decision.rejected), "is_remade_alike": True},
            "and the redo gave the same; accept it, or reject it with --redo-with",
        ),
        (Gate.verdict, {"has_payloads": True, "verdict": Verdict.fail, "sign_off": decide(Decision.accepted)}, ""),
        (
            Gate.sign_off,
            {
                "has_payloads": True,
                "verdict": Verdict.fail,
                "sign_off": decide(Decision.accepted, author="rule:none_fail"),
            },
            "validation of CDC Tracking failed",
        ),
        (Gate.sign_off, {"has_payloads": True, "verdict": Verdict.fail}, "validation of CDC Tracking failed"),
        (Gate.sign_off, {"has_payloads": True, "sign_off": decide(Decision.rejected)}, "rejected by ada"),
        (Gate.sign_off, {"has_payloads": True, "verdict": Verdict.passed}, "waits for the sign-off"),
        (Gate.sign_off, {"has_payloads": True, "sign_off": decide(Decision.accepted)}, ""),
    ],
)
def test_a_gate_answers_with_who_must_do_what(gate: Gate, state: dict, says: str) -> None:
    reasons = check_gate(gate, [CalibrationStanding("CDC Tracking", **state)], campaign="prompt", bucket=BUCKET)
    assert len(reasons) == bool(says)
    assert all(says in reason for reason in reasons)


def test_buckets_are_published_in_order() -> None:
    others = [Bucket(ExpRun(11, 1), ExpRun(11, 9)), BUCKET, Bucket(ExpRun(13, 1), ExpRun(13, 2))]
    (reason,) = check_order(BUCKET, others, [], campaign="prompt")
    assert "e0011r00001-e0011r00009 is earlier" in reason
    assert reason.endswith("b2cal bucket run prompt e0011r00001-e0011r00009")
    assert check_order(BUCKET, others, [others[0].key], campaign="prompt") == ()


def test_tags_leave_published_for_invalid_only_and_invalid_never() -> None:
    def reachable(state: TagState) -> set[TagState]:
        found: set[TagState] = set()
        todo = [state]
        while todo:
            todo += [new for new in TRANSITIONS[todo.pop()] if new not in found]
            found.update(todo)
        return found

    assert reachable(TagState.PUBLISHED) == {TagState.INVALID}
    assert reachable(TagState.INVALID) == set()
    assert {state for state in TagState if not state.is_usable} == {TagState.OPEN, TagState.INVALID}


def test_tag_names_are_checked() -> None:
    assert check_tag_name("user_ada_a+b:1-2") == "user_ada_a+b:1-2"
    with pytest.raises(ConfigurationError, match="letters, digits"):
        check_tag_name("a/b")


def test_small_values_answer_plainly() -> None:
    assert [status for status in JobStatus if status.is_final] == [JobStatus.completed, JobStatus.failed]
    assert BackendError("down", transient=True).transient
