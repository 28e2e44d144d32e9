"""The numbers that options take: finite, and no larger than the libraries behind them hold."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["FloatRange", "IntRange"]

_MOST = 2**31 - 1  # what C libraries hold in an int


class IntRange(click.IntRange):
    """Whole numbers of a range, which ends at the largest of 32 bits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not -_MOST <= number <= _MOST:
            self.fail(f"{value} is beyond {_MOST}", param, ctx)
        return number


class FloatRange(click.FloatRange):
    """Real numbers of a range, of which NaN and the infinities are none: click's own takes NaN for any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number
