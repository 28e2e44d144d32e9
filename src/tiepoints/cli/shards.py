"""--shard 3/16: which items a process of an array of jobs does, and where it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import click

T = TypeVar("T", str, tuple[str, str])


class Shard(NamedTuple):
    """One part of several of the work."""

    number: int
    """From 1."""
    parts: int

    @property
    def name(self) -> str:
        """Of the files that it writes in the store."""
        return f"shard-{self.number}-of-{self.parts}"

    def mine(self, names: Iterable[T]) -> list[T]:
        """Those that fall to this shard: by a hash of the name, so that further items move none to another shard."""
        return [name for name in names if _hash(name) % self.parts == self.number - 1]


def _hash(name: str | tuple[str, str]) -> int:
    text = name if isinstance(name, str) else "\0".join(name)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


class _Kind(click.ParamType):  # type: ignore[type-arg] # generic in new versions only
    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Shard):
            return value
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is not such as 3/16: the third of 16 parts", param, ctx)
        return Shard(int(number), int(count))


shard_option = click.option(
    "--shard",
    type=_Kind(),
    metavar="K/N",
    help="Do the K-th of N parts and keep it in the work folder, which the parts share; --out is written by the same "
    "command without --shard, when all parts are done.",
)
