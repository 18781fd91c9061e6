"""Rights: who has none changes and uploads nothing, whatever the names of users and tags, in client and server."""

import re
from collections.abc import Callable

from backends import RestWorld
from grid import ALWAYS, Line, answers_of, moderate
from hypothesis import assume, given
from hypothesis import strategies as st
from worlds import RELEASE, Case, World, attempt

from b2cal_core.errors import RightsError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV
from b2cal_core.rights import Rights

BEFORE: list[Line] = [("p", "1", ALWAYS)]

# I23

specials = st.text("xy.*+?()[]{}|^$\\-_ä", min_size=1, max_size=6)


def attempts(client: ConditionsDB, case: Case, tag: str, document: PlanDocument) -> dict[str, Callable[[], object]]:
    """Every way to change the tag."""
    local = case.local([("p", f"new {case.number}", ALWAYS)])
    return {
        "replace": lambda: client.replace_iovs(tag, [case.name("p")], local),
        "add": lambda: client.add_iovs(tag, [TagIov(case.name("p"), 1, IoV(5, 0, 5, 0))]),
        "edit": lambda: client.apply(document, RELEASE),
        "state": lambda: client.set_state(tag, expected=TagState.OPEN, new=TagState.TESTING),
        "clone": lambda: client.clone_tag(tag, f"{tag}_clone"),
        "create": lambda: client.create_tag(f"{tag}_new"),
        "lease": lambda: client.lease(tag, holder="anybody", seconds=60),
    }


def test_i23_without_a_matching_pattern_all_is_refused_before_anything_is_uploaded(world: World) -> None:
    case = world.case()
    tag = case.make([("p", "1", IoV(0, 0, 0, 1))])
    before = world.conditions.fingerprint(tag), case.revisions()
    client = world.client(Rights("x", admin=(r"user_x_.*", r"tag", rf"{tag}_other.*", rf".{tag}")))
    document = case.document(tag, [], kind=PlanKind.edit)
    for kind, work in attempts(client, case, tag, document).items():
        assert isinstance(attempt(work), RightsError), kind
    assert (world.conditions.fingerprint(tag), case.revisions()) == before


def test_i23_one_users_tags_are_not_anothers_of_a_longer_or_special_name(world: World) -> None:
    """``user_x_`` is not ``user_xy_``, and a dot in a user's name is a dot."""
    case = world.case()
    for user, tag, allowed in [
        ("x", f"user_x_{case.number}", True),
        ("x", f"user_xy_{case.number}", False),
        ("x", f"user_x{case.number}", False),
        ("x", f"my_user_x_{case.number}", False),
        ("a.b", f"user_aXb_{case.number}", False),
        ("x+", f"temp_x+_{case.number}", True),
        ("x+", f"temp_xx_{case.number}", False),
        (".*", f"user_anna_{case.number}", False),
    ]:
        refusal = attempt(lambda user=user, tag=tag: world.client(Rights.own(user)).create_tag(tag))
        assert (refusal is None) is allowed, (user, tag)
        assert refusal is None or isinstance(refusal, RightsError)
        assert (world.truth.get_tag(tag) is not None) is allowed


@given(user=specials, other=specials)
@moderate(60)
def test_i23_own_rights_cover_own_tags_only_whatever_the_names(user: str, other: str) -> None:
    rights = Rights.own(user)
    assert rights.may_administer(f"user_{user}_tag")
    assert rights.may_administer(f"temp_{user}_tag")
    assume(not f"{other}_tag".startswith(f"{user}_"))
    assert not rights.may_administer(f"user_{other}_tag")


def test_i23_who_may_fill_may_not_publish_or_change_states(world: World) -> None:
    case = world.case()
    tag, other = case.make(), case.make()
    client = world.client(Rights("filler", create_iov=(re.escape(tag),)))
    local = case.local([("p", "1", ALWAYS)])
    client.replace_iovs(tag, [case.name("p")], local)
    assert case.answers(tag) == answers_of(BEFORE)
    for work in (
        lambda: client.replace_iovs(other, [case.name("p")], local),
        lambda: client.set_state(tag, expected=TagState.OPEN, new=TagState.TESTING),
        lambda: client.create_tag(f"{tag}_new"),
    ):
        assert isinstance(attempt(work), RightsError)
    assert case.answers(other) == {}
    assert world.conditions.fingerprint(tag).endswith("-OPEN")


def test_i23_the_server_checks_by_itself_what_a_client_may_do(rest: RestWorld) -> None:
    """A client without any check of its own: nothing is uploaded or changed with another's token."""
    case = rest.case()
    tag = case.make(BEFORE)
    calls = rest.client(Rights("x", admin=("user_x_.*",)))._calls
    record, (link,) = calls.tag(tag), rest.truth.list_iovs(tag)
    assert record is not None
    assert link.id is not None
    for work in (
        lambda: calls.create_iov(record, 1, IoV(9, 0, 9, 9)),
        lambda: calls.change_iov(link.id, IoV(0, 0, 0, 5)),
        lambda: calls.delete_iov(link.id),
        lambda: calls.set_state(tag, TagState.TESTING),
        lambda: calls.create_tag(f"{tag}_new", type="DEV", description="", user="x"),
        lambda: calls.update_running(tag, []),
    ):
        assert isinstance(attempt(work), RightsError)
    assert rest.truth.list_iovs(tag) == (link,)
