"""What every ticket system, and every fake of one, must do."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from b2cal_core.ports import TicketSystem
from b2cal_core.situations import Plot, WorkState
from b2cal_core.tickets import Remark, Ticket, TicketReference

PARENT = Ticket("prompt/e0012r00001-e0012r00020", "Bucket 40", "All of it.", WorkState.waiting, assignee="mia")
CHILD = Ticket(
    "prompt/e0012r00001-e0012r00020/cdc_tracking",
    "CDC Tracking, bucket 40",
    "**Verdict: warn**",
    WorkState.needs_sign_off,
    labels=("campaign::prompt",),
    assignee="ada",
    remark=Remark("a" * 16, "It waits for you."),
)


@dataclass(frozen=True)
class Shown:
    """A ticket as people see it."""

    title: str
    text: str
    labels: frozenset[str]
    assignees: tuple[str, ...]
    done: bool
    comments: tuple[str, ...]
    pictures: tuple[bytes, ...]
    related: tuple[str, ...]


class TicketSystemContract:
    @pytest.fixture
    def tickets(self) -> Iterator[TicketSystem]:
        raise NotImplementedError

    def shown(self, reference: TicketReference) -> Shown:
        """The ticket as it is in the system."""
        raise NotImplementedError

    def number_of_tickets(self) -> int:
        raise NotImplementedError

    @pytest.fixture
    def plot(self, tmp_path: Path) -> Plot:
        (tmp_path / "before_after.png").write_bytes(b"\x89PNG one")
        return Plot("before_after", tmp_path / "before_after.png")

    def test_it_says_where_people_find_it(self, tickets: TicketSystem) -> None:
        assert tickets.check().startswith("http")

    def test_a_ticket_is_made_as_it_should_stand(self, tickets: TicketSystem, plot: Plot) -> None:
        reference = tickets.keep(replace(CHILD, plots=(plot,)))
        seen = self.shown(reference)
        assert seen.title == CHILD.title
        assert CHILD.text in seen.text
        assert {"campaign::prompt", "b2cal", "b2cal::needs sign-off"} == seen.labels
        assert seen.assignees == ("ada",)
        assert not seen.done
        assert ["It waits for you." in comment for comment in seen.comments] == [True]
        assert seen.pictures == (b"\x89PNG one",)
        assert reference.id in reference.address

    def test_asked_again_it_doubles_nothing(self, tickets: TicketSystem, plot: Plot) -> None:
        parent = tickets.keep(PARENT)
        child = replace(CHILD, plots=(plot,), parent=parent.id)
        first = tickets.keep(child)
        before = self.shown(first)
        assert tickets.keep(child) == first
        assert tickets.keep(child, first) == first
        assert self.shown(first) == before
        assert self.number_of_tickets() == 2

    def test_it_follows_the_work_to_its_end_and_back(self, tickets: TicketSystem) -> None:
        reference = tickets.keep(CHILD)
        accepted = replace(CHILD, state=WorkState.accepted, done=True, remark=Remark("b" * 16, "Accepted by ada."))
        tickets.keep(accepted, reference)
        seen = self.shown(reference)
        assert seen.done
        assert {"campaign::prompt", "b2cal", "b2cal::accepted"} == seen.labels
        assert len(seen.comments) == 2
        tickets.keep(replace(CHILD, text="Made anew."), reference)
        assert not self.shown(reference).done
        assert "Made anew." in self.shown(reference).text

    def test_a_child_is_related_to_its_parent(self, tickets: TicketSystem) -> None:
        parent = tickets.keep(PARENT)
        child = tickets.keep(replace(CHILD, parent=parent.id))
        assert self.shown(child).related == (parent.id,)

    def test_tickets_of_other_keys_are_others(self, tickets: TicketSystem) -> None:
        first = tickets.keep(CHILD)
        second = tickets.keep(replace(CHILD, key=CHILD.key + "_2"))
        assert first != second
        assert self.number_of_tickets() == 2

    def test_a_plot_that_was_drawn_anew_replaces_the_one_before(self, tickets: TicketSystem, plot: Plot) -> None:
        reference = tickets.keep(replace(CHILD, plots=(plot,)))
        plot.file.write_bytes(b"\x89PNG two")
        tickets.keep(replace(CHILD, plots=(plot,)), reference)
        assert self.shown(reference).pictures == (b"\x89PNG two",)

    def test_a_plot_that_is_gone_is_left_out(self, tickets: TicketSystem, tmp_path: Path) -> None:
        reference = tickets.keep(replace(CHILD, plots=(Plot("gone", tmp_path / "gone.png"),)))
        assert self.shown(reference).pictures == ()

    def test_a_ticket_for_an_unknown_account_is_nobodys(self, tickets: TicketSystem) -> None:
        assert self.shown(tickets.keep(replace(CHILD, assignee="nobody-of-that-name"))).assignees == ()

    def test_accounts_that_nobody_has_are_named(self, tickets: TicketSystem) -> None:
        assert tickets.unknown(["ada", "nobody-of-that-name", "mia"]) == ("nobody-of-that-name",)
        assert tickets.unknown([]) == ()

    def test_a_reference_to_a_ticket_that_is_gone_or_another_one_is_no_hindrance(self, tickets: TicketSystem) -> None:
        other = tickets.keep(PARENT)
        assert tickets.keep(CHILD, replace(other, id="12345")) == tickets.keep(CHILD, other)
        assert self.number_of_tickets() == 2
