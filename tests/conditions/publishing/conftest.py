from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from published_tags import NEWER, START, VALIDATED, fill

from b2cal_core.payloads import TagState
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.publisher import Publisher


@pytest.fixture
def conditions(tmp_path: Path) -> EmbeddedConditionsDB:
    return EmbeddedConditionsDB(tmp_path / "conditions")


@pytest.fixture
def publisher(conditions: EmbeddedConditionsDB) -> Publisher:
    return Publisher(conditions, holder="the test")


@pytest.fixture
def make(conditions: EmbeddedConditionsDB, tmp_path: Path) -> Callable[..., None]:
    """Makes a tag of lines (name, content, IoV)."""
    return partial(fill, conditions, files=tmp_path)


@pytest.fixture
def prompt(make: Callable[..., None]) -> None:
    """A RUNNING tag ``prompt`` and a VALIDATED ``staging`` for it."""
    make("prompt", START, TagState.RUNNING)
    make("staging", NEWER, *VALIDATED)
