"""The kinds of arguments that name something which is there: jobs and hosts. A shell completes them
from the state and the inventory; whether what was given exists is said where it is looked up."""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from sollol_tui.model.errors import SollolError
from sollol_tui.model.names import did_you_mean

if TYPE_CHECKING:
    from sollol_tui.model.inventory import Inventory

_NEWEST = 50  # jobs that are offered


class _JobName(StringParamType):
    """A job's id, a beginning of it, or a name."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        with suppress(SollolError, OSError):
            return [
                CompletionItem(job, help=f"{name}, {state}")
                for job, name, state in _jobs()
                if job.startswith((incomplete, f"j-{incomplete}"))
            ]
        return []


class _HostName(StringParamType):
    """A host of the inventory; with `patterns` also what selects several of them in one word."""

    name = "host"

    def __init__(self, *, patterns: bool = False) -> None:
        self._patterns = patterns

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        with suppress(SollolError, OSError):
            inventory = _inventory(ctx)
            known = list(self._names(inventory))
            before, begun = "", incomplete
            if self._patterns:
                before = incomplete[: incomplete.rfind(",") + 1]
                begun = incomplete[len(before) :]
                known = [f"!{name}" for name in known] if begun.startswith("!") else known
            return [CompletionItem(before + name) for name in known if name.startswith(begun)]
        return []

    def _names(self, inventory: "Inventory") -> Iterable[str]:
        yield from (host.name for host in inventory.hosts)
        if self._patterns:
            yield from inventory.groups
            yield from dict.fromkeys(f"tag:{tag}" for host in inventory.hosts for tag in host.tags)
            yield "all"


def checkpoint_step(
    _ctx: click.Context, _option: click.Parameter, value: str | None
) -> int | Literal["newest"] | None:
    """Which checkpoint an option names."""
    if value is None or value == "newest":
        return "newest" if value else None
    text = value.removeprefix("checkpoint-")
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:16]) < 10**15):
        raise click.BadParameter(f"'{value}' is no step of a checkpoint; a number, or newest")
    return int(text)


class Word(click.Choice[str]):
    """One word of a few; a wrong one is met with the nearest."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        if near := did_you_mean(str(value), self.choices):
            return f"'{str(value)[:80]}'{near}"
        return super().get_invalid_choice_message(value, ctx)


FILE = click.Path(readable=False)  # whether it is there is said where it is read
JOB = _JobName()
HOST = _HostName()
HOSTS = _HostName(patterns=True)


def _jobs() -> list[tuple[str, str, str]]:
    """Id, name and state of the newest jobs."""
    from sollol_tui.jobs.home import open_home
    from sollol_tui.jobs.store import Store
    from sollol_tui.jobs.view import read_jobs

    with Store(open_home()) as store:
        return [(job.id, job.name, job.state.value) for job in read_jobs(store, _NEWEST)]


def _inventory(ctx: click.Context) -> "Inventory":
    from sollol_tui.inventories import InventoryFile
    from sollol_tui.jobs.home import open_home

    given: Any = ctx.find_root().params.get("inventory")
    return InventoryFile(given, parsed=open_home().root / "inventories").read()
