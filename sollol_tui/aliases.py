"""The hosts that ~/.ssh/config names: which aliases there are, in the order of the file.

What an alias means is asked of those who connect; patterns and negations are no names.
"""

import re
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Final

from sollol_tui.model.errors import HostError, InputError, NotFoundError
from sollol_tui.model.names import NAME
from sollol_tui.model.text import clean

_MAX_DEPTH: Final = 16  # of Include, as in OpenSSH
_LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)")
_WORD = re.compile(r'"([^"]*)"|(\S+)')


def ssh_config() -> Path:
    return Path.home() / ".ssh" / "config"


def read_aliases(file: Path) -> list[str]:
    """Every name on a `Host` line of the file and of those it includes, once. Raises NotFoundError
    when there is no such file."""
    if not file.is_file():
        raise NotFoundError(
            f"there is no {file}", remedy="name a machine yourself: sollol hosts add NAME"
        )
    return list(dict.fromkeys(_aliases(file, 0)))


async def places_of(aliases: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The user of each alias, and where it leads in words, as ~/.ssh/config resolves it."""
    from sollol_tui.hosts.destination import destination
    from sollol_tui.model.inventory import Host

    places = {}
    for alias in aliases:
        try:
            place = await destination(Host(name=alias), [])
        except HostError as error:
            places[alias] = "", clean(error.message)
            continue
        port = f":{place.port}" if place.port != 22 else ""
        via = f" via {','.join(place.jumps)}" if place.jumps else ""
        places[alias] = place.user, clean(f"{place.user}@{place.address}{port}{via}")
    return places


def _aliases(file: Path, depth: int) -> Iterator[str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError.single(str(file), "is not UTF-8 text") from None
    except OSError as error:
        raise InputError.single(str(file), f"cannot be read: {error.strerror}") from None
    for line in lines:
        match = _LINE.match(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        words = list(_words(match[2]))
        match match[1].lower():
            case "host":
                yield from (word for word in words if NAME.fullmatch(word))
            case "include" if depth < _MAX_DEPTH:
                for word in words:
                    yield from _included(word, depth)


def _words(text: str) -> Iterator[str]:
    for quoted, bare in _WORD.findall(text):
        if bare.startswith("#"):
            return
        yield quoted or bare


def _included(pattern: str, depth: int) -> Iterator[str]:
    path = Path(pattern).expanduser()
    # A relative name lies beside the user's own file, whichever file includes it.
    for name in sorted(glob(str(ssh_config().parent / path))):  # noqa: PTH207
        if Path(name).is_file():
            yield from _aliases(Path(name), depth + 1)
