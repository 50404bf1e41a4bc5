"""`sollol schema`: what editors need to complete and check inventory and job files."""

import json

import click


@click.command()
@click.argument("kind", type=click.Choice(["inventory", "job"]))
def schema(kind: str) -> None:
    """Prints the JSON schema of inventory.yaml or of a job file.

    \b
    Example: sollol schema inventory > inventory.schema.json
    Then, as the first line of inventory.yaml:
      # yaml-language-server: $schema=inventory.schema.json
    """
    from sollol_tui.model.schema import inventory_schema, job_schema

    made = inventory_schema() if kind == "inventory" else job_schema()
    click.echo(json.dumps(made, indent=2))
