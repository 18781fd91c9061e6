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
    bins = np.asarray(histogram.view(flow=True))
    names = bins.dtype.names
    parts = {"value": bins} if names is None else {name.strip("_"): bins[name] for name in names}
    return {name: np.ascontiguousarray(values).ravel() for name, values in parts.items()}


def layout_of(histogram: Any) -> dict[str, Any]:  # noqa: ANN401 (any histogram)
    """Axes, kind of storage and names, as JSON holds them."""
    from boost_histogram.serialization import to_uhi  # noqa: PLC0415 (only calibrations with histograms need it)

    layout = dict(to_uhi(histogram.copy().reset()))
    shapes = {key: np.shape(value) for key, value in layout["storage"].items() if key != "type"}
    plain: dict[str, Any] = _jsonable(layout)
    return plain | {"storage": {"type": layout["storage"]["type"], "shapes": shapes}}


def hist_of_columns(columns: dict[str, np.ndarray], layout: dict[str, Any]) -> "Hist[Any]":
    """The histogram with these numbers in its bins."""
    import hist  # noqa: PLC0415 (only calibrations with histograms need it)
    from boost_histogram.serialization import from_uhi  # noqa: PLC0415 (see above)

    arrays = {key: np.zeros(shape) for key, shape in layout["storage"]["shapes"].items()}
    empty = from_uhi({**layout, "storage": {"type": layout["storage"]["type"], **arrays}})
    histogram: Hist[Any] = hist.Hist(empty)
    bins: Any = np.asarray(histogram.view(flow=True))
    if bins.dtype.names is None:
        bins[...] = columns["value"].reshape(bins.shape)
    for name in bins.dtype.names or ():
        bins[name] = columns[name.strip("_")].reshape(bins.shape)
    return histogram


def _jsonable(value: Any) -> Any:  # noqa: ANN401 (whatever axes hold)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value
