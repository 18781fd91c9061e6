from pathlib import Path

import hist
import numpy as np
import pytest

from b2cal_caf.calibration import Sums, Table
from b2cal_caf.collected import CollectedHeap, CollectorFiles, read_index
from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.ranges import ExpRun

R1, R2, R3 = ExpRun(5, 1), ExpRun(5, 2), ExpRun(6, 1)


def written(path: Path, *parts: tuple[ExpRun, dict], granularity: str = "run") -> Path:
    heap = CollectedHeap(granularity)
    for run, collected in parts:
        heap.add(run, 1, collected)
    heap.write(path)
    return path


def sums(*numbers: float) -> Sums:
    return Sums(x=np.array(numbers), n=np.ones(len(numbers), dtype=np.int64))


def table(*numbers: int) -> Table:
    return Table(x=np.array(numbers, dtype=np.int32))


def a_hist(storage: object, *values: float) -> hist.Hist:
    filled = hist.Hist(
        hist.axis.Regular(3, 0, 3, name="t", label="time", underflow=False),
        hist.axis.StrCategory([], growth=True, name="c"),
        storage=storage,
        name="h",
    )
    sample = {"sample": np.array(values)} if isinstance(storage, hist.storage.Mean) else {}
    filled.fill(np.array(values), ["a"] * len(values), **sample)
    return filled


def test_sums_are_added_over_files_and_runs(tmp_path: Path) -> None:
    one = written(tmp_path / "1.root", (R1, {"s": sums(1, 2)}), (R2, {"s": sums(10, 20)}), (R1, {"s": sums(3, 4)}))
    two = written(tmp_path / "2.root", (R1, {"s": sums(100, 200)}))
    data = CollectorFiles({"default": [one, two]})
    assert data.runs == (R1, R2)
    assert data.sums("s")["x"].tolist() == [114, 226]
    assert data.sums("s")["n"].tolist() == [4, 4]
    assert data.sums("s")["n"].dtype == np.int64
    assert data.of([R2]).sums("s")["x"].tolist() == [10, 20]
    assert data.of([R2]).runs == (R2,)
    assert dict(data.events) == {R1: 3, R2: 1}


def test_rows_of_tables_come_in_order_of_runs_and_files(tmp_path: Path) -> None:
    one = written(tmp_path / "1.root", (R2, {"t": table(20)}), (R1, {"t": table(1, 2)}), (R1, {"t": table(3)}))
    two = written(tmp_path / "2.root", (R1, {"t": table(4)}))
    data = CollectorFiles({"default": [one, two]})
    assert data.table("t")["x"].tolist() == [1, 2, 3, 4, 20]
    assert data.of([R1]).table("t")["x"].tolist() == [1, 2, 3, 4]
    assert data.of([R3]).table("t") == {}


@pytest.mark.parametrize(
    "storage", [hist.storage.Double(), hist.storage.Int64(), hist.storage.Weight(), hist.storage.Mean()], ids=str
)
def test_histograms_survive_with_axes_names_and_storage(tmp_path: Path, storage: object) -> None:
    one = written(tmp_path / "1.root", (R1, {"h": a_hist(storage, 0.5, 1.5)}), (R2, {"h": a_hist(storage, 2.5)}))
    two = written(tmp_path / "2.root", (R1, {"h": a_hist(storage, 1.5, 9.0)}))
    data = CollectorFiles({"default": [one, two]})
    read = data.hist("h")
    assert read is not None
    assert read == a_hist(storage, 0.5, 1.5) + a_hist(storage, 1.5, 9.0) + a_hist(storage, 2.5)
    assert [axis.name for axis in read.axes] == ["t", "c"]
    assert read.axes["t"].label == "time"
    assert data.of([R2]).hist("h") == a_hist(storage, 2.5)


def test_what_was_not_collected_is_empty(tmp_path: Path) -> None:
    data = CollectorFiles({"default": [written(tmp_path / "1.root", (R1, {}))]})
    assert (data.sums("s"), data.table("t"), data.hist("h")) == ({}, {}, None)
    assert data.runs == (R1,)


def test_collections_are_kept_apart(tmp_path: Path) -> None:
    one = written(tmp_path / "1.root", (R1, {"s": sums(1)}))
    two = written(tmp_path / "2.root", (R2, {"s": sums(2)}))
    data = CollectorFiles({"mumu": [one], "cosmic": [two]})
    assert data.runs == (R1, R2)
    assert data.sums("s", "mumu")["x"].tolist() == [1]
    assert data.sums("s", "cosmic")["x"].tolist() == [2]
    with pytest.raises(ConfigurationError, match=r"no collection 'default'.*mumu, cosmic"):
        data.sums("s")


def test_one_heap_belongs_to_all_runs(tmp_path: Path) -> None:
    file = written(tmp_path / "1.root", (R1, {"s": sums(1)}), (R2, {"s": sums(2)}), granularity="all")
    data = CollectorFiles({"default": [file]})
    assert data.runs == (R1, R2)
    assert data.sums("s")["x"].tolist() == [3]


def test_ignored_runs_are_not_seen(tmp_path: Path) -> None:
    file = written(tmp_path / "1.root", (R1, {"s": sums(1)}), (R2, {"s": sums(2)}))
    data = CollectorFiles({"default": [file]}, ignored=[R1])
    assert data.runs == (R2,)
    assert data.sums("s")["x"].tolist() == [2]


def test_rows_may_be_arrays_and_may_be_missing(tmp_path: Path) -> None:
    matrix = Sums(m=np.arange(12.0).reshape(2, 3, 2))
    empty = Table(x=np.empty(0, dtype=np.float32))
    file = written(tmp_path / "1.root", (R1, {"m": matrix, "t": empty}))
    data = CollectorFiles({"default": [file, file]})
    np.testing.assert_array_equal(data.sums("m")["m"], 2 * matrix["m"])
    assert data.table("t")["x"].tolist() == []


def test_an_algorithm_may_change_what_it_was_given(tmp_path: Path) -> None:
    data = CollectorFiles({"default": [written(tmp_path / "1.root", (R1, {"s": sums(1), "t": table(1)}))]})
    data.sums("s")["x"] += 1
    assert data.sums("s")["x"].tolist() == [1]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("1.root", "2.root"):
        written(tmp_path / name, (R1, {"s": sums(1), "h": a_hist(hist.storage.Double(), 0.5)}))
    assert (tmp_path / "1.root").read_bytes() == (tmp_path / "2.root").read_bytes()


@pytest.mark.parametrize(
    ("collected", "words"),
    [
        ({"index": sums(1)}, "not 'index'"),
        ({"a/b": sums(1)}, "are named with"),
        ({"s": {"x": np.array([1])}}, "Sums, Table or Hist, got dict"),
        ({"s": Sums(x=np.array(["a"]))}, "must be a numeric array"),
        ({"s": Sums(x=np.float64(1))}, "must be a numeric array"),
        ({"s": Sums(x=np.zeros(2), y=np.zeros(3))}, "equally long"),
    ],
)
def test_what_cannot_be_stored_is_refused(collected: dict, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        CollectedHeap("run").add(R1, 1, collected)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (sums(1), sums(1, 2)),
        (sums(1), Sums(y=np.zeros(1))),
        (a_hist(hist.storage.Double(), 1), hist.Hist(hist.axis.Regular(5, 0, 1))),
    ],
)
def test_what_does_not_fit_together_is_refused(first: object, second: object) -> None:
    heap = CollectedHeap("run")
    heap.add(R1, 1, {"s": first})
    with pytest.raises(ConfigurationError, match="cannot be added"):
        heap.add(R1, 1, {"s": second})


def test_asking_for_another_kind_than_was_collected_is_refused(tmp_path: Path) -> None:
    data = CollectorFiles({"default": [written(tmp_path / "1.root", (R1, {"s": sums(1)}))]})
    with pytest.raises(ConfigurationError, match="collected as sums, not as table"):
        data.table("s")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.root").write_bytes(b"root")
    with pytest.raises(DataError, match=r"bad\.root cannot be read"):
        read_index(tmp_path / "bad.root")
