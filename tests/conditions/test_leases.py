"""Leases: one holder at a time, whose number is larger than any before."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept_database import KeptDatabase

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import Lease, TagState

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOLDERS = ("anna", "bert", "carl")
Step = tuple[str, str, int]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("lease"), st.sampled_from(HOLDERS), st.integers(0, 5)),
        st.tuples(st.just("end"), st.sampled_from(HOLDERS), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 4)),
        st.tuples(st.just("change"), st.sampled_from(("", *HOLDERS)), st.just(0)),
    ),
    max_size=12,
)


@dataclass
class Model:
    """Who holds the tag until when, in seconds, and the last lease each holder was given."""

    now: int = 0
    holder: str = ""
    until: int = 0
    numbers: list[int] = field(default_factory=list)
    given: dict[str, Lease] = field(default_factory=dict)

    @property
    def held_by(self) -> str:
        return self.holder if self.until > self.now else ""


class Leasing:
    """A database whose clock is set by the test; every example gets a tag of its own."""

    def __init__(self, database: KeptDatabase) -> None:
        self.model = Model()
        self.conditions = database.open(clock=lambda: NOON + timedelta(seconds=self.model.now))
        self.tags = 0

    def begin(self) -> None:
        self.tags += 1
        self.model = Model()
        self.conditions.create_tag(self.tag)

    @property
    def tag(self) -> str:
        return f"tag{self.tags}"

    def take(self, step: Step) -> None:
        kind, who, seconds = step
        if kind == "wait":
            self.model.now += seconds
        elif kind == "lease":
            self.lease(who, seconds)
        elif kind == "end" and who in self.model.given:
            self.end(who)
        elif kind == "change":
            self.change(who)

    def lease(self, who: str, seconds: int) -> None:
        model, before = self.model, self.model.held_by
        if before not in {"", who}:
            with pytest.raises(ConflictError, match=before):
                self.conditions.lease(self.tag, holder=who, seconds=seconds)
            return
        lease = self.conditions.lease(self.tag, holder=who, seconds=seconds)
        assert (lease.tag, lease.holder) == (self.tag, who)
        assert lease.expires == NOON + timedelta(seconds=model.now + seconds)
        if before == who:
            assert lease.number == model.numbers[-1]
        else:
            assert all(lease.number > number for number in model.numbers)
        model.numbers.append(lease.number)
        model.given[who], model.holder, model.until = lease, who, model.now + seconds

    def end(self, who: str) -> None:
        model, lease = self.model, self.model.given[who]
        self.conditions.end_lease(lease)
        if model.holder == who and lease.number == model.numbers[-1]:
            model.holder = ""

    def change(self, who: str) -> None:
        """A change of state, back and forth, by one who has the lease, has had it, or never had any."""
        model, lease = self.model, self.model.given.get(who)
        held, before = model.held_by, self.conditions.fingerprint(self.tag)
        may = held == who and lease is not None and lease.number == model.numbers[-1] if lease else held == ""
        for expected, new in ((TagState.OPEN, TagState.TESTING), (TagState.TESTING, TagState.OPEN)):
            if may:
                self.conditions.set_state(self.tag, expected=expected, new=new, lease=lease)
            else:
                with pytest.raises(ConflictError, match=r"nothing was changed"):
                    self.conditions.set_state(self.tag, expected=TagState.OPEN, new=TagState.TESTING, lease=lease)
        assert self.conditions.fingerprint(self.tag) == before


@pytest.fixture
def leasing(database: KeptDatabase) -> Leasing:
    return Leasing(database)


@given(taken=steps)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_there_is_one_holder_at_a_time_and_numbers_only_grow(leasing: Leasing, taken: list[Step]) -> None:
    leasing.begin()
    for step in taken:
        leasing.take(step)


def test_a_lease_of_one_tag_is_none_of_another(leasing: Leasing) -> None:
    leasing.begin()
    lease = leasing.conditions.lease(leasing.tag, holder="anna", seconds=60)
    leasing.conditions.create_tag("other")
    leasing.conditions.lease("other", holder="bert", seconds=60)
    with pytest.raises(ConflictError, match="nothing was changed"):
        leasing.conditions.set_state("other", expected=TagState.OPEN, new=TagState.TESTING, lease=lease)
