"""Histograms as columns of numbers and a description of their axes, and back, without loss.

The package is imported only where a histogram is met.
Source: the UHI serialisation of boost-histogram.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hist import Hist


def is_hist(value: object) -> bool:
    """Whether the object is a ``hist.Hist``, judged without importing the package."""
    return any(kind.__module__.startswith("hist.") and kind.__name__ == "BaseHist" for kind in type(value).__mro__)


def columns_of_hist(histogram: Any) -> dict[str, np.ndarray]:  # noqa: ANN401 (any histogram)
    """One column per number kept in a bin, flow bins included, in C order."""
    storage = _serialised(histogram)["storage"]
    return {key: np.ascontiguousarray(values).ravel() for key, values in storage.items() if key != "type"}


def layout_of(histogram: Any) -> dict[str, Any]:  # noqa: ANN401 (any histogram)
    """Axes, kind of storage and names, as JSON holds them."""
    plain = _serialised(histogram)
    columns = {key: values for key, values in plain["storage"].items() if key != "type"}
    shape = list(next(iter(columns.values())).shape)
    return {**plain, "storage": {"type": plain["storage"]["type"]}, "shape": shape} | {"axes": _jsonable(plain["axes"])}


def hist_of_columns(columns: dict[str, np.ndarray], layout: dict[str, Any]) -> "Hist[Any]":
    """The histogram with these numbers in its bins."""
    import hist  # noqa: PLC0415 (only calibrations with histograms need it)
    from boost_histogram.serialization import from_uhi  # noqa: PLC0415 (see above)

    shape = tuple(layout["shape"])
    storage = layout["storage"] | {key: values.reshape(shape) for key, values in columns.items()}
    plain = {key: value for key, value in layout.items() if key != "shape"}
    return hist.Hist(from_uhi({**plain, "storage": storage}))


def _serialised(histogram: Any) -> dict[str, Any]:  # noqa: ANN401 (any histogram)
    from boost_histogram.serialization import to_uhi  # noqa: PLC0415 (see above)

    return dict(to_uhi(histogram))


def _jsonable(value: Any) -> Any:  # noqa: ANN401 (whatever axes hold)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value
