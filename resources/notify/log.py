"""Notices in a file of the home: what an installation has without setting anything up."""

from datetime import UTC, datetime
from pathlib import Path

from b2cal_core.errors import BackendError
from b2cal_core.notices import Notice
from b2cal_core.ports import Notifier
from b2cal_core.situations import unescaped


class LogNotifier(Notifier):
    """Appends notices to a file, each as a line with time and title, and its text indented below.

    Args:
        file: made when first needed, with its directory.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def tell(self, notice: Notice) -> None:
        """Append the notice, in one write."""
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        to = ", ".join(notice.to) or "everybody"
        text = "".join(f"    {line}".rstrip() + "\n" for line in unescaped(notice.text).splitlines())
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(f"{now} {notice.kind.value} (to {to}): {notice.title}\n{text}")
        except OSError as error:
            raise BackendError(
                f"notices cannot be written to {self._file}: {error.strerror}", transient=True
            ) from error
