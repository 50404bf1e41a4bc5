"""What every command is given: the global options and, when it needs one, a client."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from sollol_tui.model.errors import SollolError

if TYPE_CHECKING:
    from sollol_tui.client import SOLLOLClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    inventory: str | None = None
    readonly: bool = False
    yes: bool = False
    timeout_s: float | None = None  # in place of every host's connect_timeout
    quiet: bool = False

    @property
    def asks(self) -> bool:
        """Whether somebody is there who wants to be asked."""
        return not self.yes and sys.stdin.isatty()

    def check_acting(self) -> None:
        """Raises SollolError when nothing may be changed."""
        if self.readonly:
            raise SollolError("this command acts, and --readonly is on")

    @contextmanager
    def client(self, *, acts: bool = False) -> "Iterator[SOLLOLClient]":
        """A client of the chosen inventory. `acts` says that the command changes something."""
        from sollol_tui.client import SOLLOLClient

        if acts:
            self.check_acting()
        client = SOLLOLClient(self.inventory, connect_timeout_s=self.timeout_s)
        try:
            yield client
        finally:
            client.close()


pass_session = click.make_pass_decorator(Session)
