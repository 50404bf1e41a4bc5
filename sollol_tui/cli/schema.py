"""`sollol schema`: what editors need to complete and check inventory and job files, and what
programs may rely on in the output of --json."""

import json
from typing import Final

import click

from sollol_tui.cli.params import Word

# The names of model.output_schema, which is loaded when one is asked for.
OUTPUTS: Final = (
    "checkpoints config config-path dataset doctor evaluation event events export hosts job jobs"
    " log-line metrics plan prune resources status supervise version"
)
_KINDS: Final = ("inventory", "job", *(f"sollol.{name}/1" for name in OUTPUTS.split()))


@click.command()
@click.argument("kind", type=Word(_KINDS), metavar="inventory|job|sollol.NAME/1")
def schema(kind: str) -> None:
    """Prints the JSON schema of inventory.yaml, of a job file, or of what --json prints.

    \b
    Example: sollol schema inventory > inventory.schema.json
    Then, as the first line of inventory.yaml:
      # yaml-language-server: $schema=inventory.schema.json
    What --json prints names its schema itself:
      sollol schema sollol.status/1
    """
    if kind in ("inventory", "job"):
        from sollol_tui.model.schema import inventory_schema, job_schema

        made = inventory_schema() if kind == "inventory" else job_schema()
    else:
        from sollol_tui.model.output_schema import output_schema

        made = output_schema(kind)
    click.echo(json.dumps(made, indent=2))
