"""Values that nobody may see: where they are kept, and how they are read at the moment they are needed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from b2cal_core.errors import ConfigurationError
from resources.private_files import NotPrivateError, private_text

_VARIABLE, _FILE = "env:", "file:"
SecretSource = Annotated[str, Field(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$")]
"""Where a secret is: ``env:NAME`` or ``file:PATH``; never the secret itself."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by its place; it is read anew each time, so a new one counts at once.

    Args:
        source: ``env:NAME``, or ``file:PATH`` of a file that only its owner may read.
        what: what people call it, for messages.
    """

    source: str
    what: str

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """The secret, without the white space around it; ``ConfigurationError`` when there is none."""
        if self.source.startswith(_VARIABLE):
            name = self.source.removeprefix(_VARIABLE)
            value, place = environment.get(name, ""), f"the environment variable {name}"
        else:
            place = self.source.removeprefix(_FILE)
            value = self._content(Path(place))
        if not value.strip():
            raise ConfigurationError(f"{self.what} should be in {place}, which is not set or empty; put it there")
        return value.strip()

    def _content(self, path: Path) -> str:
        try:
            return private_text(path)
        except NotPrivateError as error:
            raise ConfigurationError(f"{self.what} in {error} can be read by others; use `chmod 600`") from None
        except OSError as error:
            raise ConfigurationError(f"{self.what} cannot be read from {path}: {error.strerror}") from None
