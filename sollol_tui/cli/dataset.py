"""`sollol dataset`: what a dataset holds and what is wrong with it, before anything is trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sollol_tui.blocking import run
from sollol_tui.cli.exits import ExitCode
from sollol_tui.cli.lazy import Group
from sollol_tui.cli.params import FILE
from sollol_tui.cli.terminal import has_colour, say
from sollol_tui.model.errors import InputError
from sollol_tui.model.plan import BYTES_PER_TOKEN
from sollol_tui.model.text import clean, clean_lines
from sollol_tui.model.units import format_bytes

if TYPE_CHECKING:
    from sollol_tui.jobs.dataset import Checked

SHOWN_ROWS: Final = 3
LEARNT, GIVEN = "> ", "  "
LEGEND: Final = (
    "> is learnt; the rest is what the model is given (a chat template may head it otherwise)"
)


@click.group(cls=Group)
def dataset() -> None:
    """Looks into a dataset: its format, its problems, its first rows."""


_file = click.argument("file", metavar="FILE", type=FILE)
_format = click.option(
    "--format", "fmt", default="auto", metavar="NAME|JSON", help="A format, or a column mapping."
)


@dataset.command()
@_file
@_format
@click.option(
    "--max-length",
    type=click.IntRange(1),
    default=512,
    help="Tokens of a sample at most.",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.dataset/1).")
def check(file: str, fmt: str, max_length: int, as_json: bool) -> int:
    """Reads every row and tells what is wrong, with its place.

    \b
    Example: sollol dataset check rows.jsonl
    """
    checked = _inspect(file, fmt, over=int(max_length * BYTES_PER_TOKEN))
    if as_json:
        click.echo(json.dumps(_data(checked) | {"max_length": max_length}))
    else:
        _tell(checked, max_length)
    return ExitCode.FAILED if checked.problem_count else ExitCode.OK


@dataset.command()
@_file
@_format
@click.option("--json", "as_json", is_flag=True, help="One JSON object (schema sollol.dataset/1).")
def show(file: str, fmt: str, as_json: bool) -> int:
    """Shows three rows as the model sees them, and which part of them is learnt.

    \b
    Example: sollol dataset show rows.jsonl
    """
    checked = _inspect(file, fmt, rows=SHOWN_ROWS)
    if as_json:
        click.echo(json.dumps(_data(checked)))
    else:
        for problem in checked.problems:
            click.echo(str(problem), err=True)
        if checked.unread:
            click.echo(_unread(checked), err=True)
        for example in checked.examples:
            _show(example)
        if checked.examples:
            say(LEGEND)
    return ExitCode.FAILED if checked.problem_count else ExitCode.OK


def _inspect(file: str, fmt: str, **settings: Any) -> "Checked":
    from sollol_tui.jobs.dataset import HUB, inspect_dataset, locate_dataset

    place = locate_dataset(file, Path.cwd())
    if place.startswith(HUB):
        raise InputError.single(place, "lies on the hub, and only workers fetch and check it")
    return run(inspect_dataset(place, _mapping(fmt), **settings))


def _mapping(fmt: str) -> str | dict[str, str]:
    if not fmt.startswith("{"):
        return fmt
    try:
        mapping = json.loads(fmt)
    except ValueError:
        mapping = None
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise click.UsageError('--format takes a name or a mapping like {"prompt": "question"}')
    return mapping


def _tell(checked: "Checked", max_length: int) -> None:
    from sollol_tui.jobs.dataset import told

    facts = checked.facts
    for problem in told(checked, facts.path):
        click.echo(str(problem))
    if checked.unread:
        click.echo(_unread(checked), err=True)
        return
    files = f" in {len(facts.files)} files" if facts.files else ""
    count = checked.problem_count
    click.echo(
        f"{clean(facts.path, limit=400)}: format {facts.format or 'unknown'}, "
        f"{facts.rows:,} good row{'s' * (facts.rows != 1)}{files}, "
        f"{count or 'no'} problem{'s' * (count != 1)}, {format_bytes(facts.size_bytes)}"
    )
    if alone := checked.unanswered:
        have = "row has" if alone == 1 else "rows have"
        click.echo(f"{alone:,} {have} an empty answer, nothing to learn from, and would be skipped")
    if checked.unread_in:
        counted = (f"{name} ({count:,})" for name, count in checked.unread_in)
        click.echo(f"not read, because no part of the format (rows): {', '.join(counted)}")
    if checked.thinking:
        click.echo(
            f"{checked.thinking:,} rows hold thinking; it is learnt where the model's chat "
            "template shows it"
        )
    if facts.rows:
        click.echo(
            f"~{facts.mean_chars / BYTES_PER_TOKEN:.0f} tokens a row; ~{checked.longer:,} rows "
            f"({checked.longer / facts.rows:.1%}) are over {max_length} tokens and would be cut "
            f"(~{BYTES_PER_TOKEN} bytes per token)"
        )


def _unread(checked: "Checked") -> str:
    return f"{checked.facts.path}: parquet is read and checked on a worker"


def _show(example: dict[str, Any]) -> None:
    place = f"row {example['row']}"
    if example.get("file"):
        place = f"{clean(example['file'], limit=400)}, {place}"
    click.echo(click.style(place, bold=has_colour()))
    for piece in example["pieces"]:
        lines = clean_lines(str(piece["text"]))
        if left_out := piece.get("left_out"):
            lines.append(f"[{left_out:,} more characters]")
        for line in lines:
            if piece["learnt"]:
                click.echo(LEARNT + line)
            else:
                click.echo(click.style(GIVEN + line, dim=has_colour()))
    click.echo()


def _data(checked: "Checked") -> dict[str, Any]:
    facts = checked.facts
    return {
        "schema": "sollol.dataset/1",
        "path": facts.path,
        "files": list(facts.files),
        "format": facts.format or None,
        "rows": None if checked.unread else facts.rows,
        "size_bytes": facts.size_bytes,
        "sha256": facts.sha256,
        "mean_chars": facts.mean_chars,
        "rows_over_length": checked.longer,
        "rows_without_answer": checked.unanswered,
        "rows_with_thinking": checked.thinking,
        "unread": dict(checked.unread_in),
        "problems": [str(problem) for problem in checked.problems],
        "problem_count": checked.problem_count,
        "examples": list(checked.examples),
    }
