from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot.writing._cascade as cascade
import uproot.writing._cascadetree as cascadetree

from b2cal_caf.payload_files import read_payload, write_payload
from b2cal_caf.root_files import root_bytes
from b2cal_core.errors import DataError

COLUMNS = {"t0": np.linspace(-1, 1, 50), "t0_err": np.full(50, 0.5), "wire": np.arange(50, dtype=np.int32)}


class LaterClock:
    """Stands in for the datetime module and says it is a later year."""

    class datetime(datetime):  # noqa: N801 (the name it stands in for)
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2031, 5, 6, 7, 8, 9, tzinfo=tz)


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    write_payload(tmp_path / "p.root", "CDCTimeZeros", COLUMNS)
    columns = read_payload(tmp_path / "p.root", "CDCTimeZeros")
    assert list(columns) == list(COLUMNS)
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(columns[name], values)
        assert columns[name].dtype == values.dtype


def test_equal_columns_give_equal_bytes_at_another_time_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_payload(tmp_path / "a.root", "X", COLUMNS)
    monkeypatch.setattr(cascade, "datetime", LaterClock)
    monkeypatch.setattr(cascadetree, "datetime", LaterClock)
    write_payload(tmp_path / "sub" / "b.root", "X", COLUMNS)
    assert (tmp_path / "a.root").read_bytes() == (tmp_path / "sub" / "b.root").read_bytes()


def test_many_objects_in_one_file_are_reproducible_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(directory: Any) -> None:
        for index in range(60):
            directory.mktree(f"tree{index}", {"x": np.dtype("f8")}).extend({"x": np.arange(index + 1.0)})

    first = root_bytes(fill, None)
    monkeypatch.setattr(cascade, "datetime", LaterClock)
    monkeypatch.setattr(cascadetree, "datetime", LaterClock)
    assert root_bytes(fill, None) == first


def test_a_scalar_is_a_column_of_length_one(tmp_path: Path) -> None:
    write_payload(tmp_path / "p.root", "X", {"offset": np.float64(2.5)})
    assert read_payload(tmp_path / "p.root")["offset"].tolist() == [2.5]


def test_empty_columns_are_read_back_empty(tmp_path: Path) -> None:
    write_payload(tmp_path / "p.root", "X", {"channel": np.empty(0, dtype=np.int64)})
    assert read_payload(tmp_path / "p.root")["channel"].tolist() == []


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "no columns"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "equally long"),
        ({"a": np.zeros((2, 2))}, "one-dimensional"),
        ({"a": np.array(["x"])}, "numeric"),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, columns: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(DataError, match=words):
        write_payload(tmp_path / "p.root", "X", columns)
    assert list(tmp_path.iterdir()) == []


def test_missing_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    write_payload(tmp_path / "p.root", "X", COLUMNS)
    (tmp_path / "cut.root").write_bytes((tmp_path / "p.root").read_bytes()[:5000])
    (tmp_path / "text.root").write_text("this is no ROOT file")
    for name in ("none.root", "cut.root", "text.root"):
        with pytest.raises(DataError, match=name):
            read_payload(tmp_path / name)
    with pytest.raises(DataError, match="one tree called Y"):
        read_payload(tmp_path / "p.root", "Y")
