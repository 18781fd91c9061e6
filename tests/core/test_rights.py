"""Patterns of tag names: who may fill and who may administer which tag."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2cal_core.errors import ConfigurationError, RightsError
from b2cal_core.rights import Rights

USERS = st.text("ab.+-_:", min_size=1, max_size=4)
TAGS = st.text("abu_+-:", max_size=12)


def test_everything_is_every_tag_and_nothing_is_none() -> None:
    assert Rights.everything("anna").may_administer("online")
    nobody = Rights("nobody")
    assert not nobody.may_administer("online")
    assert not nobody.may_fill("online")


def test_who_may_fill_may_not_administer_but_who_may_administer_may_fill() -> None:
    rights = Rights("anna", admin=("svd_.*",), create_iov=("ecl_.*",))
    assert rights.may_administer("svd_1")
    assert rights.may_fill("svd_1")
    assert rights.may_fill("ecl_1")
    assert not rights.may_administer("ecl_1")


def test_a_pattern_is_about_the_whole_name() -> None:
    rights = Rights("anna", admin=("svd",))
    assert rights.may_administer("svd")
    for tag in ("svd_1", "my_svd", "svd\n", "SVD"):
        assert not rights.may_administer(tag)
        assert not rights.may_fill(tag)


def test_the_tags_of_a_user_are_not_those_of_one_whose_name_begins_alike() -> None:
    rights = Rights.own("x")
    assert rights.may_administer("user_x_1")
    assert rights.may_administer("temp_x_1")
    for tag in ("user_xy_1", "user_x", "temp_xy_1", "my_user_x_1", "data_x_1"):
        assert not rights.may_administer(tag), tag


@pytest.mark.parametrize(
    ("user", "others"),
    [("a.b", "axb"), ("a.*", "anna"), ("a+", "aaa"), ("[ab]", "a"), ("a|b", "b"), ("a?", ""), ("(a)", "a"), ("^", "")],
)
def test_signs_that_mean_something_in_patterns_are_taken_as_they_are_in_user_names(user: str, others: str) -> None:
    rights = Rights.own(user)
    assert rights.may_administer(f"user_{user}_1")
    assert not rights.may_administer(f"user_{others}_1")


@given(user=USERS, tag=TAGS)
def test_the_own_tags_are_those_that_begin_with_the_name_and_no_others(user: str, tag: str) -> None:
    own = tag.startswith((f"user_{user}_", f"temp_{user}_"))
    assert Rights.own(user).may_administer(tag) is own
    assert Rights.own(user).may_administer(f"user_{user}_{tag}")


@given(patterns=st.lists(TAGS.map(re.escape), max_size=3), tag=TAGS)
def test_one_pattern_that_matches_is_enough(patterns: list[str], tag: str) -> None:
    expected = any(re.fullmatch(pattern, tag) for pattern in patterns)
    assert Rights("anna", admin=tuple(patterns)).may_administer(tag) is expected
    assert Rights("anna", create_iov=tuple(patterns)).may_fill(tag) is expected


def test_a_refusal_names_the_user_the_deed_the_tag_and_the_patterns() -> None:
    rights = Rights("anna", admin=("svd_.*",), create_iov=("ecl_.*",))
    rights.require_administer("svd_1", "publish into")
    rights.require_fill("ecl_1", "fill")
    with pytest.raises(RightsError, match=r"anna may not publish into global tag ecl_1 .*svd_\.\*, ecl_\.\*"):
        rights.require_administer("ecl_1", "publish into")
    with pytest.raises(RightsError, match=r"anna may not fill global tag online .*Nothing was changed"):
        rights.require_fill("online", "fill")
    with pytest.raises(RightsError, match=r"nobody .*: none\)"):
        Rights("nobody").require_fill("online", "fill")


@pytest.mark.parametrize("claim", ["admin", "create_iov"])
def test_a_pattern_that_is_none_is_refused_at_once(claim: str) -> None:
    with pytest.raises(ConfigurationError, match=r"rights of anna .*'svd_\('"):
        Rights("anna", **{claim: ("ecl", "svd_(")})
