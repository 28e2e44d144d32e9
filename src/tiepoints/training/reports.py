"""What a training of some minutes says of itself, and keeps, now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from torch import Tensor, nn

__all__ = ["Reports"]

Network = TypeVar("Network", bound=nn.Module)

_SECONDS = 20  # between two lines


class Reports(Generic[Network]):
    """Lines with the means of the losses, and the network so far, each after so much time.

    Parameters
    ----------
    now : float
        Seconds, by the clock of the training, when it begins.
    log : callable, optional
        Called with a line.
    keep : callable, optional
        Called with the network and the number of steps.
    keep_minutes : float
    digits : int
        Of the losses, behind the point.
    """

    def __init__(
        self,
        now: float,
        log: Callable[[str], None] | None,
        keep: Callable[[Network, int], None] | None,
        keep_minutes: float,
        *,
        digits: int,
    ) -> None:
        self._log, self._keep, self._minutes, self._digits = log, keep, keep_minutes, digits
        self._told = self._kept = now
        self._sums: dict[str, float] = {}
        self._since = 0

    def after(self, step: int, parts: Mapping[str, Tensor], network: Network, now: float) -> None:
        """A step was made; `parts` are its losses, and `network` is what would be kept."""
        self._since += 1
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        if self._log is not None and now - self._told > _SECONDS:
            means = (f"{name} {value / self._since:.{self._digits}f}" for name, value in self._sums.items())
            self._log(f"step {step}: " + " ".join(means))
            self._sums, self._since, self._told = {}, 0, now
        if self._keep is not None and now - self._kept > 60 * self._minutes:
            self._keep(network, step)
            self._kept = now
