"""A group of commands whose modules are imported when they run, so that --help answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from ..errors import nearest_name

__all__ = ["LazyGroup", "NamingGroup"]


class NamingGroup(click.Group):
    """A group that names the nearest of its commands where there is no such one.

    Parameters
    ----------
    synonyms : mapping, optional
        What other programs call the commands.
    """

    def __init__(self, *arguments: Any, synonyms: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.synonyms = dict(synonyms or {})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the name of the nearest command in the error."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = self.synonyms.get(name.lower()) or nearest_name(name, known)
            ctx.fail(f"there is no command {name!r}{f': did you mean {near!r}?' if near else ''}")
        return super().resolve_command(ctx, args)


class LazyGroup(NamingGroup):
    """A group that knows its commands' names and one-line helps without importing them.

    Parameters
    ----------
    lazy : mapping
        From a command's name to its module, which has it as `command`, and the line that the group's help shows.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        command: click.Command = import_module(self.lazy[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in self.lazy.items()])
