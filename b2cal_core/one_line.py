"""Models that are kept as one line of JSON."""

import json
from typing import ClassVar, Self

from pydantic import BaseModel, ValidationError

from b2cal_core.errors import ConfigurationError, reasons_of


class OneLine(BaseModel):
    """A model that is written in one line, and read again; ``what`` is what people call it, with its article."""

    what: ClassVar[str]

    def to_json(self) -> str:
        """In one line, the same for equal ones."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote; ``ConfigurationError`` naming the fields that are wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigurationError(f"this is no {cls.what}: {reasons_of(error)}") from error
