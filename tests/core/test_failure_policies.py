"""What is done about sub-jobs that failed, cause by cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError
from b2cal_core.failure_policies import Again, CausePolicy, FailurePolicy, Resort, Trial, decide
from b2cal_core.jobs import Cause

causes = st.sampled_from(Cause)
trials = st.builds(
    Trial,
    memory=st.integers(1, 100_000),
    seconds=st.none() | st.integers(1, 10**7),
    avoid=st.sets(st.sampled_from("abc")).map(sorted).map(tuple),
)
policies = st.builds(
    FailurePolicy,
    causes=st.dictionaries(
        causes,
        st.builds(
            CausePolicy,
            attempts=st.integers(0, 4),
            pause=st.floats(0, 100),
            grow=st.floats(1, 4),
            elsewhere=st.booleans(),
        ),
    ),
    memory_limit=st.integers(1, 50_000),
    time_limit=st.integers(1, 10**6),
)


USUAL = Trial(2000, 60)


def next_of(cause: Cause, before: int = 0, trial: Trial = USUAL, host: str = "n1", **policy: object) -> object:
    return decide(FailurePolicy(**policy), cause, before=before, trial=trial, host=host)


@given(policy=policies, cause=causes, trial=trials, host=st.sampled_from(["", "a", "d"]))
def test_a_job_is_tried_again_so_often_at_most_and_never_given_less(
    policy: FailurePolicy, cause: Cause, trial: Trial, host: str
) -> None:
    asked, given_ = 0, trial
    while isinstance(answer := decide(policy, cause, before=asked, trial=given_, host=host), Again):
        asked += 1
        assert answer.trial.memory >= given_.memory
        assert (answer.trial.seconds is None) == (given_.seconds is None)
        assert (answer.trial.seconds or 0) >= (given_.seconds or 0)
        assert set(given_.avoid) <= set(answer.trial.avoid)
        assert "" not in answer.trial.avoid
        assert 0 <= answer.pause <= 600
        given_ = answer.trial
        assert asked <= policy.of(cause).attempts
    assert given_.memory <= max(trial.memory, policy.memory_limit)
    assert (given_.seconds or 0) <= max(trial.seconds or 0, policy.time_limit)


def test_an_error_of_the_physics_code_is_not_tried_again() -> None:
    assert next_of(Cause.code) is Resort.ask


def test_a_job_that_ran_out_of_memory_gets_twice_as_much_up_to_the_limit() -> None:
    assert next_of(Cause.memory) == Again(Trial(4000, 60), 0.0)
    assert next_of(Cause.memory, memory_limit=3000) == Again(Trial(3000, 60), 0.0)
    assert next_of(Cause.memory, memory_limit=2000) is Resort.ask


def test_a_job_that_ran_out_of_time_gets_twice_as_much() -> None:
    assert next_of(Cause.time) == Again(Trial(2000, 120), 0.0)
    assert next_of(Cause.time, time_limit=60) is Resort.ask
    assert next_of(Cause.time, trial=Trial(2000)) == Again(Trial(2000), 0.0)  # the site's limit, not ours


def test_what_the_machine_may_have_done_is_tried_elsewhere() -> None:
    assert next_of(Cause.node, trial=Trial(2000, 60, ("n0",))) == Again(Trial(2000, 60, ("n0", "n1")), 0.0)
    assert next_of(Cause.node, host="") == Again(Trial(2000, 60), 0.0)


def test_pauses_double_and_end_at_ten_minutes() -> None:
    pauses = [next_of(Cause.batch, before=n).pause for n in (0, 1, 2, 50)]  # type: ignore[attr-defined]
    assert pauses == [1.0, 2.0, 4.0, 600.0]


def test_an_unreadable_file_is_left_out_after_one_more_look() -> None:
    assert next_of(Cause.input) == Again(Trial(2000, 60), 5.0)
    assert next_of(Cause.input, before=1) is Resort.exclude


def test_a_held_job_waits_for_a_person() -> None:
    assert next_of(Cause.held) is Resort.wait


@pytest.mark.parametrize(("excluded", "fine"), [(0, True), (1, True), (2, False)])
def test_so_many_files_may_be_left_out(excluded: int, *, fine: bool) -> None:
    assert FailurePolicy(tolerance=0.01).tolerates(excluded, 100) is fine
    assert FailurePolicy().tolerates(excluded, 100) is (excluded == 0)


def test_a_calibration_overrides_its_campaign_cause_by_cause() -> None:
    campaign = FailurePolicy(causes={Cause.memory: CausePolicy(attempts=1), Cause.time: CausePolicy()}, tolerance=0.5)
    own = FailurePolicy(causes={Cause.time: CausePolicy(attempts=7)}, memory_limit=9)
    both = campaign.overridden(own)
    assert both.causes == {Cause.memory: CausePolicy(attempts=1), Cause.time: CausePolicy(attempts=7)}
    assert (both.tolerance, both.memory_limit, both.time_limit) == (0.5, 9, FailurePolicy().time_limit)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"causes": {"bad_luck": {}}}, "causes.bad_luck"),
        ({"causes": {"memory": {"attempts": -1}}}, "causes.memory.attempts"),
        ({"causes": {"memory": {"then": "wait"}}}, "only held jobs can wait"),
        ({"causes": {"code": {"then": "exclude"}}}, "only when it cannot be read"),
        ({"tolerance": 2}, "tolerance"),
        ({"retries": 2}, "retries"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_key(mapping: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"c.yaml is no failure policy: .*{said}"):
        FailurePolicy.from_mapping(mapping, "c.yaml")


def test_a_policy_is_read_as_it_is_written() -> None:
    read = FailurePolicy.from_mapping({"causes": {"input": {"then": "exclude"}, "held": {"then": "wait"}}}, "c.yaml")
    assert read.of(Cause.input) == CausePolicy(then=Resort.exclude)
    assert read.of(Cause.code) == CausePolicy()
