"""--overwrite, and what the options of a command are told by: see `tasks.earlier`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .options import rotation

__all__ = ["note_of", "overwrite_option"]

# Options that say where and how fast the work is done, or what is printed, and change no result.
_SAME_RESULT = ("out", "jobs", "engine", "address", "store", "shard", "as_json", "overwrite", "plot", "outliers",
                "overlay", "accept_licences")  # fmt: skip


def overwrite_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--overwrite; `what` says what it replaces."""
    return click.option(
        "--overwrite",
        is_flag=True,
        help=f"Replace {what} that is there, also if other options or another program made it.",
    )


def note_of() -> dict[str, str]:
    """The options of the command that runs, as far as results depend on them: by name, each as it is typed."""
    context = click.get_current_context()
    note = {"command": str(context.command.name)}
    for option in context.command.params:
        if isinstance(option, click.Option) and option.name in context.params and option.name not in _SAME_RESULT:
            note[option.name] = _typed(option, context.params[option.name])
    note["rotation"] = f"--rotation {rotation()}" if rotation() else "no --rotation"
    limits = context.find_root().meta.get("tiepoints.value_range")
    note["value_range"] = "no --value-range" if limits is None else "--value-range {:g} {:g}".format(*limits)
    return note


def _typed(option: click.Option, value: Any) -> str:
    name = max(option.opts, key=len)
    if option.name == "settings":
        given = {key: f"-O {key}={one}" for key, one in value}
        return " ".join(given[key] for key in sorted(given)) or "no -O"
    if option.is_flag:
        return name if value else (max(option.secondary_opts, key=len) if option.secondary_opts else f"no {name}")
    values = value if option.multiple else () if value is None else (value,)
    texts = (f"{one:g}" if isinstance(one, float) else str(one) for one in values)
    # names of methods are matched without case
    said = " ".join(f"{name} {text.lower() if option.name in ('name', 'matcher') else text}" for text in texts)
    return said or f"no {name}"
