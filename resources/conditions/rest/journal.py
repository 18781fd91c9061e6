"""What is begun and not yet ended, in our own audit log: the server has no transactions and no log.

A change is noted before its first request and again after it was read back. One that was broken off stays begun, so
that whoever asks for the same again can tell it from somebody else's.
"""

import json
from collections.abc import Mapping
from typing import Any

from b2cal_core.payloads import Release
from resources.conditions.book import Book

_BEGIN = "begin"
_ENDS = frozenset({"create_tag", "clone_tag", "set_state", "replace_iovs", "add_iovs", "apply"})


class Journal:
    """The changes of tags on one server; ``user`` is named where nobody else is."""

    def __init__(self, book: Book, *, user: str) -> None:
        self.book, self._user = book, user

    def begin(
        self,
        tag: str,
        action: str,
        detail: Mapping[str, Any],
        *,
        release: Release | None = None,
        plan: str | None = None,
    ) -> None:
        """Note what is about to be changed."""
        self._note(tag, _BEGIN, {"action": action, **detail}, release=release, plan=plan)

    def end(
        self,
        tag: str,
        action: str,
        detail: Mapping[str, Any],
        *,
        release: Release | None = None,
        plan: str | None = None,
    ) -> None:
        """Note what was changed and read back."""
        self._note(tag, action, detail, release=release, plan=plan)

    def unfinished(self, tag: str, action: str) -> dict[str, Any] | None:
        """What the last change of a tag was to be, if it was such an ``action`` and never ended."""
        lines = [line for line in self.book.audit(tag) if line.action == _BEGIN or line.action in _ENDS]
        if not lines or lines[-1].action != _BEGIN:
            return None
        detail: dict[str, Any] = json.loads(lines[-1].detail)
        return detail if detail.pop("action", None) == action else None

    def _note(
        self, tag: str, action: str, detail: Mapping[str, Any], *, release: Release | None, plan: str | None
    ) -> None:
        said = release or Release(self._user, "", "")
        text = json.dumps(detail, separators=(",", ":"))
        self.book.note(tag, action=action, release=said, detail=text, plan_hash=plan)
