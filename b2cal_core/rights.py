"""Who may change which global tags: patterns of tag names, as the tokens of the Belle II database carry them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from b2cal_core.errors import ConfigurationError, RightsError


@dataclass(frozen=True, slots=True)
class Rights:
    """What one user may do.

    Attributes:
        admin: regular expressions; a tag whose whole name matches one may be made, filled, published and changed.
        create_iov: likewise; such a tag may only be filled.

    Raises:
        ConfigurationError: a pattern is no regular expression.
    Source: claims ``b2cdb:admin`` and ``b2cdb:create_iov`` of the Belle II tokens.
    """

    user: str
    admin: tuple[str, ...] = ()
    create_iov: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.admin, *self.create_iov):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigurationError(
                    f"the rights of {self.user} have the pattern {pattern!r}, which is no regular expression: {error}"
                ) from error

    @classmethod
    def everything(cls, user: str) -> Self:
        """May change every tag."""
        return cls(user, admin=(".*",))

    @classmethod
    def own(cls, user: str) -> Self:
        """What every user may do: change the tags that begin with ``user_<name>_`` or ``temp_<name>_``.

        These are Belle II's rules, so user ``x`` may change the tags of ``x_y`` too: no ``_`` in names, then.
        """
        return cls(user, admin=(rf"(user|temp)_{re.escape(user)}_.*",))

    def may_administer(self, tag: str) -> bool:
        """Whether the user may do everything with the tag."""
        return _matches(tag, self.admin)

    def may_fill(self, tag: str) -> bool:
        """Whether the user may change which payloads the OPEN tag has."""
        return _matches(tag, (*self.admin, *self.create_iov))

    def require_administer(self, tag: str, what: str) -> None:
        """Raise ``RightsError`` unless the user may do ``what`` with the tag."""
        if not self.may_administer(tag):
            self._refuse(tag, what)

    def require_fill(self, tag: str, what: str) -> None:
        """Raise ``RightsError`` unless the user may fill the tag."""
        if not self.may_fill(tag):
            self._refuse(tag, what)

    def _refuse(self, tag: str, what: str) -> None:
        patterns = ", ".join((*self.admin, *self.create_iov)) or "none"
        raise RightsError(
            f"{self.user} may not {what} global tag {tag} (patterns of tags that may be changed: {patterns});"
            " ask its administrator, or use a tag of your own. Nothing was changed"
        )


def _matches(tag: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, tag) for pattern in patterns)
