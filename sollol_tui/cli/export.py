"""`sollol export`: an adapter for other programs: alone, merged into its base, or for Ollama."""

import json
from typing import Literal

import click

from sollol_tui.cli.errands import on_a_worker
from sollol_tui.cli.params import HOST, JOB, checkpoint_step
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say
from sollol_tui.model.text import clean


@click.command()
@click.argument("job", type=JOB)
@click.option(
    "--checkpoint",
    metavar="N|newest",
    callback=checkpoint_step,
    help="A checkpoint of the job instead of its result.",
)
@click.option("--to", metavar="DIR", help="Into this folder, new or empty.")
@click.option("--merge", is_flag=True, help="One model: the adapter merged into its base.")
@click.option("--host", type=HOST, help="Who merges; by default the first free worker of the job.")
@click.option("--ollama", metavar="NAME", help="Make a model of that name in Ollama, too.")
@click.option(
    "--from", "base", metavar="BASE", help="With --ollama: a folder, a GGUF file, or a model of it."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (sollol.export/1).")
@pass_session
def export(
    session: Session,
    job: str,
    checkpoint: "int | Literal['newest'] | None",
    to: str | None,
    merge: bool,
    host: str | None,
    ollama: str | None,
    base: str | None,
    as_json: bool,
) -> None:
    """A folder with a job's adapter alone, or with one model in which it is merged into its base.

    A merged model is a folder of safetensors with the tokenizer, in the base's precision; a worker
    makes it. For Ollama a Modelfile is put beside it, and `ollama create` called where it is
    installed.

    \b
    Example: sollol export j-7f3a --merge --ollama tools
    """
    if host is not None and not merge:
        raise click.UsageError("--host goes with --merge: nothing else needs a worker")
    if base is not None and ollama is None:
        raise click.UsageError("--from goes with --ollama")
    with (
        session.client(acts=True) as client,
        on_a_worker("export", beside_json=as_json) as doing,
    ):
        exported = client.export(
            job,
            checkpoint=checkpoint,
            to=to,
            merge=merge,
            host=host,
            ollama=ollama,
            base=base,
            say=doing.tell,
            notice=doing.notice,
            report=doing.count_bytes("bringing"),
        )
    if as_json:
        click.echo(json.dumps(exported.as_data()))
        return
    click.echo(f"{'model' if merge else 'adapter'}  {clean(exported.path)}")
    if exported.model is not None:
        click.echo(f"ollama   {clean(exported.model)}")
        say(f"talk to it: ollama run {exported.model}")
    elif exported.command:
        say(f"Ollama is not installed here; where it is: {exported.command}")
