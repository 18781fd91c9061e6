"""Telling people: the notices of a bucket over every channel, and its tickets, each once, wherever a tick was killed.

The book is asked before and told after. What fails is said, stays due, and holds up nothing but its own channel.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from b2cal_assets.workshop import Correspondence
from b2cal_core.errors import BackendError, CalibrationError
from b2cal_core.notices import Notice
from b2cal_core.ports import Delivery, KeptTicket, TicketSystem
from b2cal_core.situations import BucketSituation
from b2cal_core.tickets import Ticket, TicketReference, bucket_ticket, calibration_ticket, nobody_has

_EVER = timedelta(days=365)
_AGAIN = "_This may have reached you before: telling it was cut off._\n\n"


@dataclass
class Teller:
    """One round of telling.

    Attributes:
        now: in UTC.
        end: on the monotonic clock; no notice and no ticket is begun after it.
        told: notices that were delivered; ``kept``: tickets that were made or changed.
        problems: what did not work, in sentences.
        accounts: those that were looked for, in this round or before; that nobody has one is said once.
    """

    office: Correspondence
    now: datetime
    end: float
    told: int = 0
    kept: int = 0
    problems: dict[str, None] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=set)
    _silent: set[str] = field(default_factory=set)
    _tickets_away: bool = False

    def tell(self, notices: Iterable[Notice]) -> None:
        """Deliver what is due; a channel that is down is left alone for the rest of the round."""
        deliveries = self._deliveries(notices)
        for delivery in self.office.book.due(tuple(deliveries), self.now):
            if delivery.channel not in self._silent and not self._is_late():
                self._deliver(delivery, deliveries[delivery])

    def has_told(self, notices: Iterable[Notice]) -> bool:
        """Whether all of them were delivered wherever they should be."""
        all_usable = len(self._usable) == len(self.office.channels)
        return all_usable and not self.office.book.due(tuple(self._deliveries(notices)), self.now + _EVER)

    def keep_tickets(self, situation: BucketSituation) -> bool:
        """Make the tickets of a bucket as they should stand; whether they do."""
        system = self.office.tickets
        if system is None:
            return True
        if self._tickets_away or self._is_late():
            return False
        try:
            return self._keep_all(system, situation)
        except CalibrationError as error:
            self._tickets_away = not isinstance(error, BackendError) or error.transient
            self.problems[str(error)] = None
            return False

    def _deliveries(self, notices: Iterable[Notice]) -> dict[Delivery, Notice]:
        """What is to be told where, whether it was before or not."""
        return {
            Delivery(part.key, name): part
            for one in notices
            for name, each in self._usable.items()
            if one.kind in self.office.channels[name].kinds
            for part in (one.to_each() if each else (one,))
        }

    @cached_property
    def _usable(self) -> dict[str, bool]:
        """The channels that can be used as they are set up, and whether they tell people one by one."""
        usable = {}
        for name, channel in self.office.channels.items():
            try:
                usable[name] = channel.notifier.tells_each()
            except CalibrationError as error:
                self.problems[str(error)] = None
        return usable

    def _deliver(self, delivery: Delivery, notice: Notice) -> None:
        book = self.office.book
        was_cut_off = book.begin(delivery)
        told = replace(notice, text=f"{_AGAIN}{notice.text}") if was_cut_off else notice
        try:
            self.office.channels[delivery.channel].notifier.tell(told)
        except CalibrationError as error:
            book.failed(delivery, str(error), self.now)
            if isinstance(error, BackendError):  # else it is about those who were to hear this one
                self._silent.add(delivery.channel)
            self.problems[str(error)] = None
            return
        book.told(delivery, self.now)
        self.told += 1

    def _keep_all(self, system: TicketSystem, situation: BucketSituation) -> bool:
        """The bucket's ticket, those of its calibrations, and the bucket's again, which then has links to them."""
        people = self.office.people
        children = {one.name: calibration_ticket(situation, one, people, parent="") for one in situation.calibrations}
        known = dict(self.office.book.tickets([situation.key, *(child.key for child in children.values())]))
        there = {name: known[child.key].reference for name, child in children.items() if child.key in known}
        parent = self._keep(system, bucket_ticket(situation, people, there), known)
        for name, child in children.items():
            if self._is_late():
                return False
            there[name] = self._keep(system, replace(child, parent=parent.id), known)
        self._keep(system, bucket_ticket(situation, people, there), known)
        return True

    def _keep(self, system: TicketSystem, ticket: Ticket, known: dict[str, KeptTicket]) -> TicketReference:
        before = known.get(ticket.key)
        if before is not None and before.digest == ticket.digest:
            return before.reference
        reference = system.keep(ticket, before.reference if before is not None else None)
        known[ticket.key] = KeptTicket(reference, ticket.digest)
        self.office.book.keep_ticket(ticket.key, known[ticket.key])
        self.kept += 1
        self._look_for(ticket.assignee, system)
        return reference

    def _look_for(self, account: str, system: TicketSystem) -> None:
        """Say so when nobody has the account that a ticket should be assigned to."""
        if account and account not in self.accounts:
            if unknown := system.unknown([account]):
                self.problems[nobody_has(unknown)] = None
            self.accounts.add(account)

    def _is_late(self) -> bool:
        return time.monotonic() >= self.end
