"""Pixels of more than 8 bits: where they hold a value, and one scale for them that a few of them cannot change."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["measured_where", "to_8_bits"]

UInt8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# What programs write where nothing was measured: GDAL and ESRI (-9999, -3.4e38, the least 16-bit integers), others.
_NO_VALUES = (-9999.0, -99999.0, -32767.0, -32768.0, float(-(2**31)))
_SUFFICES = 2**20  # values from which the range of a picture is measured


def measured_where(values: NDArray[Any], nodata: float | None) -> Mask:
    """(H, W) where something was measured: finite, and none of the values that stand for nothing."""
    missing = np.zeros(values.shape, bool)
    if values.dtype.kind == "f":
        missing |= ~(np.abs(values) < 1e30)  # NaN, infinity, and the largest floats with either sign
    if nodata is not None:
        missing |= values == (np.float32(nodata) if values.dtype == np.float32 else nodata)
    elif values.dtype.kind in "fi":
        for value in _NO_VALUES:
            missing |= values == value
    missing_all: Mask = np.asarray(missing if missing.ndim == 2 else missing.all(axis=2), bool)
    if nodata is None and values.dtype.itemsize > 1:
        missing_all |= _far_end(values, ~missing_all)
    return np.logical_not(missing_all, out=missing_all)


def _far_end(values: NDArray[Any], valid: Mask) -> Mask:
    """Where an image holds 0, or the largest number of its type, which lie farther from all others than these spread.

    Such as the black frame around an elevation model of 1,200 to 1,500 m.
    """
    ends = [0] if values.dtype.kind == "f" else [0, np.iinfo(values.dtype).max]
    none = np.zeros(valid.shape, bool)
    for end in ends:
        at = values == end
        if at.mean() < 1e-3:
            continue
        at_all = valid & (at if at.ndim == 2 else at.all(axis=2))
        if at_all.mean() < 1e-3:
            continue
        rest = values[valid & ~at_all]
        if rest.size < 16:
            continue
        low, first, last, high = _quantiles(rest, (0.1, 1, 99, 99.9))
        if first < last and (end < low - (high - low) or end > high + (high - low)):
            none |= at_all
    return none


def _quantiles(values: NDArray[Any], percent: tuple[float, ...]) -> tuple[float, ...]:
    flat = values.reshape(-1)
    return tuple(float(q) for q in np.percentile(flat[:: max(1, flat.size // _SUFFICES)], percent))


def to_8_bits(values: NDArray[Any], valid: Mask | None, value_range: tuple[float, float] | None = None) -> UInt8:
    """Deep pixels to 8 bits by one linear scale for all channels, which a few pixels cannot change.

    Black and white are the percentiles 0.1 and 99.9 of the valid pixels, but at most a quarter of the range of the
    middle 98 % beyond it. So full contrast needs no knowledge of the sensor's bits, neither an offset (temperatures in
    1/100 K) nor hot pixels take it, and it moves no more than the picture does from frame to frame.

    Parameters
    ----------
    values : (H, W) or (H, W, 3) array of any type
    valid : (H, W) bool or None
        The other pixels become 0; None if there are none.
    value_range : (float, float), optional
        What becomes 0 and 255, for frames that are to be on one scale.
    """
    if value_range is None:
        inside = values if valid is None else values[valid]
        lowest, first, last, highest = _quantiles(inside, (0.1, 1, 99, 99.9))
        low, high = max(lowest, first - (last - first) / 4), min(highest, last + (last - first) / 4)
        if not high > low:  # nearly all pixels are the same
            low, high = float(inside.min()), float(inside.max())
    else:
        low, high = value_range
    factor = 255 / (high - low) if high > low else 0.0
    if values.dtype == np.uint16:
        steps = np.arange(2**16, dtype=np.float64)
        table = np.rint(np.clip((steps - low) * factor, 0, 255)).astype(np.uint8)
        out = np.asarray(table[values], np.uint8)
    else:
        out = np.empty(values.shape, np.uint8)
        for row in range(0, len(values), 256):  # a block at a time, for the memory
            block = np.where(np.isfinite(values[row : row + 256]), values[row : row + 256], low).astype(np.float64)
            out[row : row + 256] = np.rint(np.clip((block - low) * factor, 0, 255))
    if valid is not None:
        out[~valid] = 0
    return out
