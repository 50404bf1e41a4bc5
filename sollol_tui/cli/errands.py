"""What a command shows while something is done for it on a worker: how far it is, and what Ctrl+C
leaves there. Does none of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from sollol_tui.cli.bars import Bars
from sollol_tui.cli.terminal import say
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes


class Doing:
    """`name` is what the command is about."""

    def __init__(self, name: str, *, beside_json: bool) -> None:
        self._name = name
        self._bars = Bars(beside_json=beside_json)

    def tell(self, text: str) -> None:
        """What it is busy with."""
        self._bars.clear()  # so that the next one is drawn at once: it may stay for long
        self._bars.show(self._name, None, clean(text))

    def notice(self, text: str) -> None:
        """What should be known of it later, too."""
        self.clear()
        say(clean(text))

    def count_rows(self, part: str, done: int, total: int) -> None:
        self._bars.show(part, done / max(total, 1), f"{done:,} of {total:,} rows")

    def count_bytes(self, what: str) -> Callable[[int, int], None]:
        """Takes how many bytes of how many of something are there."""

        def report(done: int, total: int) -> None:
            told = f"{format_bytes(done)} of {format_bytes(total)}"
            self._bars.show(what, done / max(total, 1), told)

        return report

    def clear(self) -> None:
        self._bars.clear()


@contextmanager
def on_a_worker(name: str, *, beside_json: bool) -> Iterator[Doing]:
    """The body has something done there; whoever interrupts that hears that nothing of it stays."""
    doing = Doing(name, beside_json=beside_json)
    try:
        yield doing
    except KeyboardInterrupt:
        doing.clear()
        click.echo("interrupted: nothing of it is left on the worker", err=True)
        raise
    finally:
        doing.clear()
