"""Payload files: a ROOT file with one TTree, named like the payload, that has a branch per column.

Columns are one-dimensional, numeric and equally long; a scalar is a column of length 1. The statistical error of a
column lies beside it as ``<column>_err``. Equal columns give equal bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import uproot

from b2cal_caf.atomic_files import write_atomically
from b2cal_caf.root_files import open_root, root_bytes, root_damage
from b2cal_core.errors import DataError

_COMPRESSION = uproot.ZSTD(3)


def write_payload(path: Path, name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Write the payload file atomically.

    Raises:
        DataError: there is no column, or one is not numeric, not one-dimensional or of another length than the first.
    """
    checked = _checked(name, columns)

    def fill(directory: Any) -> None:  # noqa: ANN401 (uproot has no types)
        directory.mktree(name, {column: values.dtype for column, values in checked.items()}).extend(checked)

    write_atomically(path, root_bytes(fill, _COMPRESSION))


def read_payload(path: Path, name: str | None = None) -> dict[str, np.ndarray]:
    """The columns of a payload file, in the order they were written.

    Args:
        path: the file.
        name: the payload expected in it; by default whichever tree it holds.

    Raises:
        DataError: the file is missing, damaged, or does not hold this payload.
    """
    try:
        damage = root_damage(path)
        if damage is not None:
            msg = f"payload file {path} cannot be read: {damage}"
            raise DataError(msg)
        with open_root(path) as root:
            trees = root.keys(cycle=False, filter_classname="TTree")
            if len(trees) != 1 or (name is not None and trees != [name]):
                wanted = f"one tree called {name}" if name else "exactly one tree"
                msg = f"payload file {path} should hold {wanted}, it holds {', '.join(trees) or 'none'}"
                raise DataError(msg)
            tree = root[trees[0]]
            return {column: branch.array(library="np") for column, branch in tree.items()}
    except FileNotFoundError as error:
        msg = f"payload file {path} does not exist; restore it or run the calibration that made it again"
        raise DataError(msg) from error
    except (OSError, ValueError, uproot.DeserializationError) as error:
        msg = f"payload file {path} cannot be read as ROOT: {error}"
        raise DataError(msg) from error


def _checked(name: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not columns:
        msg = f"payload {name} has no columns; save at least one"
        raise DataError(msg)
    arrays = {column: np.atleast_1d(np.asarray(values)) for column, values in columns.items()}
    lengths = {column: len(values) for column, values in arrays.items()}
    for column, values in arrays.items():
        if values.ndim != 1 or values.dtype.kind not in "biuf":
            found = f"{values.dtype} of shape {values.shape}"
            msg = f"column {column} of payload {name} must be one-dimensional and numeric, it is {found}"
            raise DataError(msg)
    if len(set(lengths.values())) > 1:
        msg = f"the columns of payload {name} must be equally long, they have {lengths}"
        raise DataError(msg)
    return arrays
