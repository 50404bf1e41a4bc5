"""Which names hosts, jobs and groups may have: they become folder names, arguments and columns.

Also how an inventory writes where a host is: an address, and the jumps on the way there."""

import re
from collections.abc import Iterable
from typing import Final

from sollol_tui.model.errors import NotFoundError

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
JUMP: Final = re.compile(r"(?:ssh://)?(?:([^@]+)@)?(\[[^\]]+\]|[^:@]+)(?::(\d{1,5}))?")
MAX_JUMPS: Final = 8
PORTS: Final = range(1, 65536)
_MOST: Final = 100  # characters that are compared: it takes their square
_LISTED: Final = 20  # names in a sentence
COORDINATOR: Final = "coordinator"  # the host that always exists and joins only when asked


def check_name(value: str) -> str:
    if NAME.fullmatch(value) is None:
        raise ValueError(
            f"{value[:80]!r} is not a name: letters, digits, '.', '_' and '-', 63 at most, "
            "not starting with '.' or '-'"
        )
    return value


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """ " - did you mean 'status'?" when one of the known words is near, else nothing."""
    import difflib  # late: few words are wrong

    near = difflib.get_close_matches(word[:_MOST], [name[:_MOST] for name in known], 1, cutoff)
    return f" - did you mean '{near[0]}'?" if near else ""


def not_found(what: str, word: str, known: Iterable[str], *, where: str = "") -> NotFoundError:
    """ "no host 'hydar' in inventory.yaml - did you mean 'hydra'?", or the names that there are."""
    names = list(known)
    said = f"{what} '{word[:_MOST]}'{where}"
    if meant := did_you_mean(word, names):
        return NotFoundError(said + meant)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return NotFoundError(said, remedy=f"it has: {', '.join(names[:_LISTED])}{more}")
