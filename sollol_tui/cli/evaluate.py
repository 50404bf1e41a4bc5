"""`sollol evaluate`: how good an adapter is, beside its base."""

import json
import textwrap
from collections.abc import Iterator
from typing import Final, Literal

import click

from sollol_tui.cli.errands import on_a_worker
from sollol_tui.cli.params import HOST, JOB, checkpoint_step
from sollol_tui.cli.session import Session, pass_session
from sollol_tui.cli.terminal import say, width
from sollol_tui.model.evaluation import Evaluation, Example
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_duration

MOST_SAMPLES: Final = 20
_INDENT: Final = 10
_MOST_LINES: Final = 12  # of one text: --json has them all


@click.command()
@click.argument("adapter", metavar="JOB|DIR", type=JOB)
@click.option("--dataset", metavar="FILE", help="Rows to measure on, for those held out.")
@click.option(
    "--checkpoint",
    metavar="N|newest",
    callback=checkpoint_step,
    help="A checkpoint of the job instead of its result.",
)
@click.option("--host", type=HOST, help="Who does it; by default the first free worker of the job.")
@click.option(
    "--samples",
    type=click.IntRange(0, MOST_SAMPLES),
    default=3,
    show_default=True,
    help="How many of the rows are answered before and after.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (sollol.evaluation/1).")
@pass_session
def evaluate(
    session: Session,
    adapter: str,
    dataset: str | None,
    checkpoint: "int | Literal['newest'] | None",
    host: str | None,
    samples: int,
    as_json: bool,
) -> None:
    """Loss and perplexity of a job's adapter, or of one in a folder, beside those of its base.

    Measured on a worker, on the rows that the job held out (val_size) or on those of --dataset;
    some of them are answered before and after. Ctrl+C leaves nothing there. `sollol show` keeps
    the outcome.

    \b
    Example: sollol evaluate j-7f3a --samples 5
    """
    with (
        session.client(acts=True) as client,
        on_a_worker("evaluate", beside_json=as_json) as doing,
    ):
        evaluation = client.evaluate(
            adapter,
            dataset=dataset,
            checkpoint=checkpoint,
            host=host,
            samples=samples,
            say=doing.tell,
            progress=doing.count_rows,
            report=doing.count_bytes("adapter"),
        )
    if as_json:
        click.echo(json.dumps(evaluation.as_data()))
        return
    for line in _lines(evaluation):
        click.echo(line)
    if evaluation.job is not None:
        say(f"kept: sollol show {evaluation.job}")


def _lines(evaluation: Evaluation) -> Iterator[str]:
    rows = "held-out rows" if evaluation.held_out else "rows"
    yield f"{'adapter':<{_INDENT}} {clean(evaluation.source)}"
    yield f"{'base':<{_INDENT}} {clean(evaluation.model)}"
    yield (
        f"{'measured':<{_INDENT}} {evaluation.rows:,} {rows} ({evaluation.tokens:,} tokens learnt "
        f"from) of {clean(evaluation.dataset)}, on {evaluation.host} ({evaluation.device}) in "
        f"{format_duration(evaluation.seconds)}"
    )
    yield f"{'':<{_INDENT}} {'loss':>8} {'perplexity':>12}"
    yield (
        f"{'before':<{_INDENT}} {evaluation.loss_before:>8.4f} "
        f"{evaluation.perplexity_before:>12,.2f}"
    )
    yield f"{'after':<{_INDENT}} {evaluation.loss:>8.4f} {evaluation.perplexity:>12,.2f}"
    for example in evaluation.examples:
        yield ""
        yield from _example(example)


def _example(example: Example) -> Iterator[str]:
    yield f"{example.place}"
    for name, text in (
        ("asked", example.prompt),
        ("expected", example.expected),
        ("before", example.before),
        ("after", example.after),
    ):
        if name == "expected" and not text:
            continue
        lines = [
            part
            for line in clean_lines(text)
            for part in textwrap.wrap(line, max(20, width() - _INDENT - 1)) or [""]
        ]
        shown = lines[:_MOST_LINES]
        if len(lines) > _MOST_LINES:
            shown.append(f"... {len(lines) - _MOST_LINES} lines more")
        for number, line in enumerate(shown or ["-"]):
            yield f"{name if not number else '':<{_INDENT}} {line}".rstrip()
