"""`sollol completion`: what a shell has to read so that Tab completes commands, options, jobs and
hosts. Changes no file of the shell."""

import click
from click.shell_completion import get_completion_class

from sollol_tui.cli.params import Word

_VARIABLE = "_SOLLOL_COMPLETE"  # in which click looks for it
_SHELLS = ("bash", "fish", "zsh")


@click.command()
@click.argument("shell", type=Word(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Prints what makes Tab complete commands, options, job ids and host names.

    \b
    Example: eval "$(sollol completion bash)"
    To keep it, one line in
      bash  ~/.bashrc:  eval "$(sollol completion bash)"
      zsh   ~/.zshrc, after compinit:  eval "$(sollol completion zsh)"
      fish  ~/.config/fish/completions/sollol.fish:  sollol completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(ctx.find_root().command, {}, "sollol", _VARIABLE)
    click.echo(made.source_template % made.source_vars())
