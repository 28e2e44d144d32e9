"""Plots as SVG text: curves and marks, without a plotting library and without a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from .report import Plot, Series

__all__ = ["plot_svg"]

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 228, 34, 52  # margins; the legend stands on the right

# Okabe and Ito's colours, which stay apart for colour-blind eyes too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")


def plot_svg(plot: Plot) -> str:
    """A plot as an <svg> element. Points that are not finite are left out, and on a log axis those not above 0."""
    shown = [(index, _finite(series, plot)) for index, series in enumerate(plot.series)]
    xs = [x for _, series in shown for x in series.x]
    ys = [y for _, series in shown for y in series.y]
    title = escape(plot.title)
    head = (
        f'<svg viewBox="0 0 {_WIDTH} {max(_HEIGHT, _TOP + 17 * len(shown) + 14)}" role="img" aria-label="{title}" xmlns="http://www.w3.org/2000/svg">'
        f'<text x="{_LEFT}" y="18" class="title">{title}</text>'
    )
    if not xs:
        return f'{head}<text x="{_LEFT}" y="60">nothing to plot</text></svg>'
    x_at, x_ticks = _axis(xs, plot.log_x, _LEFT, _WIDTH - _RIGHT, zero=plot.kind == "points" and not plot.log_x)
    y_at, y_ticks = _axis(ys, plot.log_y, _HEIGHT - _BOTTOM, _TOP, zero=not plot.log_y)
    parts = [head, _frame(plot, x_at, x_ticks, y_at, y_ticks)]
    for place, (index, series) in enumerate(shown):
        colour = _COLOURS[index % len(_COLOURS)]
        parts += _draw(plot, series, colour, x_at, y_at)
        parts.append(_legend(series, colour, place))
    return "".join(parts) + "</svg>"


def _finite(series: Series, plot: Plot) -> Series:
    pairs = [
        (float(x), float(y))
        for x, y in zip(series.x, series.y, strict=True)
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not plot.log_x) and (y > 0 or not plot.log_y)
    ]
    return Series(series.label, tuple(x for x, _ in pairs), tuple(y for _, y in pairs), series.reference)


def _axis(
    values: Sequence[float], log: bool, start: float, end: float, zero: bool
) -> tuple[Callable[[float], float], list[float]]:
    """Where a value lies on an axis from `start` to `end`, and the values to mark."""
    low, high = min(values), max(values)
    if log:
        low, high = math.log10(low), math.log10(high)
        low, high = low - 0.05 * (high - low) - 0.02, high + 0.05 * (high - low) + 0.02
        marks = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
        ticks = [mark for mark in marks if low <= math.log10(mark) <= high]
        return lambda value: start + (math.log10(value) - low) / (high - low) * (end - start), ticks
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    low, high = first * step, last * step
    ticks = [round(k * step, 12) for k in range(first, last + 1)]
    return lambda value: start + (value - low) / (high - low) * (end - start), ticks


def _round_step(step: float) -> float:
    """The next larger of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def _frame(
    plot: Plot,
    x_at: Callable[[float], float],
    x_ticks: Sequence[float],
    y_at: Callable[[float], float],
    y_ticks: Sequence[float],
) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" class="axis"/>']
    for x in x_ticks:
        at = f"{x_at(x):.1f}"
        parts.append(f'<path d="M{at} {_TOP}V{bottom}" class="grid"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{x:g}</text>')
    for y in y_ticks:
        at = f"{y_at(y):.1f}"
        parts.append(f'<path d="M{_LEFT} {at}H{right}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at}" dy="4" text-anchor="end">{y:g}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(plot.x_label)}</text>')
    centre = (_TOP + bottom) / 2
    parts.append(
        f'<text x="14" y="{centre}" text-anchor="middle" transform="rotate(-90 14 {centre})">'
        f"{escape(plot.y_label)}</text>"
    )
    return "".join(parts)


def _draw(
    plot: Plot, series: Series, colour: str, x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> list[str]:
    places = [(x_at(x), y_at(y)) for x, y in zip(series.x, series.y, strict=True)]
    dash = ' stroke-dasharray="5 4"' if series.reference else ""
    parts = []
    if plot.kind == "lines" and places:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    fill = "none" if series.reference else colour
    radius = 3 if plot.kind == "lines" else 6
    for (x, y), value_x, value_y in zip(places, series.x, series.y, strict=True):
        tip = escape(f"{series.label}: {value_x:g}, {value_y:g}")
        place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
        parts.append(f'<circle {place} fill="{fill}" stroke="{colour}"><title>{tip}</title></circle>')
    return parts


def _legend(series: Series, colour: str, place: int) -> str:
    x, y = _WIDTH - _RIGHT + 16, _TOP + 8 + 17 * place
    label = series.label if len(series.label) <= 30 else f"{series.label[:29]}…"
    fill = "none" if series.reference else colour
    return (
        f'<rect x="{x}" y="{y - 8}" width="12" height="9" fill="{fill}" stroke="{colour}"/>'
        f'<text x="{x + 18}" y="{y}"><title>{escape(series.label)}</title>{escape(label)}</text>'
    )
