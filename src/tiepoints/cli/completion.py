"""`tiepoints completion`."""

from __future__ import annotations

import click

from .options import examples


@click.command(
    "completion",
    epilog=examples(
        'eval "$(tiepoints completion bash)"    # in ~/.bashrc',
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes commands, options and extractors in your shell."""
    from click.shell_completion import get_completion_class

    from . import cli

    complete = get_completion_class(shell)
    assert complete is not None
    # The template itself: `source()` would first run the user's bash to ask for its version.
    script = complete(cli, {}, "tiepoints", "_TIEPOINTS_COMPLETE")
    click.echo(script.source_template % script.source_vars())
