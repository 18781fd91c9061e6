"""A directory that is gone afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory, removed with all that was written there, also when the work in it failed."""
    root = Path(tempfile.mkdtemp(prefix="b2cal-benchmark-"))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
