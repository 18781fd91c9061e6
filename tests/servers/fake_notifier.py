"""A notifier of the tests: it keeps what it is told, and can be away."""

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.notices import Notice
from b2cal_core.ports import Notifier


class FakeNotifier(Notifier):
    """Keeps notices in order; ``is_away`` makes it refuse them, ``unknown`` are people it cannot reach.

    Args:
        each: people are told one by one.
    """

    def __init__(self, *, each: bool = False) -> None:
        self._each = each
        self.notices: list[Notice] = []
        self.unknown: set[str] = set()
        self.is_away = False

    def tell(self, notice: Notice) -> None:
        if self.is_away:
            raise BackendError("the chat of the tests is away", transient=True)
        if self.unknown & set(notice.to):
            raise ConfigurationError(f"of {', '.join(notice.to)} no address is known")
        self.notices.append(notice)

    def tells_each(self) -> bool:
        return self._each

    def told(self) -> list[tuple[str, tuple[str, ...]]]:
        """Kind and hearers of what was told since this was asked last."""
        seen = [(notice.kind.value, notice.to) for notice in self.notices]
        self.notices.clear()
        return seen
