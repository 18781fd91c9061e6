"""Event files of the reference detector: ROOT files with trees of columns, the main one called ``tree``.

Equal content gives equal bytes, so that data simulated twice have one checksum.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from b2cal_caf.atomic_files import write_atomically
from b2cal_caf.root_files import root_bytes, root_damage
from b2cal_core.errors import DataError

Columns = dict[str, np.ndarray]
EVENTS = "tree"
_ORIGIN = "origin"


def write_events(path: Path, trees: Mapping[str, Mapping[str, np.ndarray]], origin: str) -> None:
    """Write the trees atomically; ``origin`` says what the file was made from."""

    def fill(directory: Any) -> None:  # noqa: ANN401 (uproot has no types)
        directory[_ORIGIN] = origin
        for name, columns in trees.items():
            layout = {key: np.dtype((values.dtype, values.shape[1:])) for key, values in columns.items()}
            tree = directory.mktree(name, layout)
            if len(next(iter(columns.values()))):
                tree.extend(dict(columns))

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, root_bytes(fill, uproot.LZ4(1)))


def read_trees(
    path: Path, columns: Mapping[str, Iterable[str] | None], *, optional: bool = False
) -> dict[str, Columns]:
    """Columns of some trees, for ``None`` all of a tree's.

    Args:
        path: the file.
        columns: tree to the columns wanted of it.
        optional: leave out trees that the file does not have.

    Raises:
        DataError: the file, a tree or a column cannot be read.
    """
    try:
        damage = root_damage(path)
        if damage is not None:
            msg = f"event file {path} cannot be read: {damage}; copy it again"
            raise DataError(msg)
        with _opened(path) as root:
            present = set(root.keys(cycle=False, recursive=False)) if optional else set(columns)
            return {tree: _read(root[tree], wanted) for tree, wanted in columns.items() if tree in present}
    except (OSError, KeyError, ValueError, uproot.DeserializationError) as error:
        msg = f"event file {path} cannot be read: {error}; copy the file again or leave its run out"
        raise DataError(msg) from error


def read_tree(path: Path, tree: str, columns: Iterable[str] | None = None) -> Columns:
    """Columns of one tree, all of them by default; ``DataError`` when they cannot be read."""
    return read_trees(path, {tree: columns})[tree]


def _read(tree: Any, columns: Iterable[str] | None) -> Columns:  # noqa: ANN401 (uproot has no types)
    return {key: tree[key].array(library="np") for key in (tree.keys() if columns is None else columns)}


def _opened(path: Path) -> Any:  # noqa: ANN401 (uproot has no types)
    """The file mapped into memory; uproot's own choice starts threads, which costs more than reading small files."""
    return uproot.open(path, handler=uproot.MemmapSource, object_cache=None, array_cache=None)


def origin_of(path: Path) -> str:
    """What the file says it was made from; nothing when it does not say."""
    with _opened(path) as root:
        return str(root[_ORIGIN]) if _ORIGIN in root else ""
