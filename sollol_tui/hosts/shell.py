"""The only place that quotes. What it cannot carry to the other side byte for byte, it refuses."""

import re
import shlex
from collections.abc import Mapping
from typing import Final

# The first line of a script whose complaints are read: they are the same in every language.
ENGLISH: Final = "LC_ALL=C; export LC_ALL\n"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


def quote(*argv: str) -> str:
    """The words as one command line that sh, bash, zsh and fish read back unchanged.

    Quotes and backslashes stand outside the single quotes, because fish, unlike POSIX shells, gives
    a backslash inside them a meaning. Raises ValueError for what no shell can carry."""
    return " ".join(map(_quote_word, argv))


def _quote_word(word: str) -> str:
    if "\0" in word:
        raise ValueError(f"{word[:60]!r} holds a NUL byte, which no command line can carry")
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{word[:60]!r} cannot be written as UTF-8") from None
    if _PLAIN.fullmatch(word):
        return word
    return "'" + re.sub(r"[\\']", lambda match: "'\\" + match[0] + "'", word) + "'"


def assignments(variables: Mapping[str, str]) -> str:
    """`A='x' B='y'`. Raises ValueError for a name that is not a variable's."""
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name[:60]!r} is not the name of an environment variable")
    return " ".join(f"{name}={_quote_word(value)}" for name, value in variables.items())


def split(command: str) -> list[str]:
    """The words of a command line that a person wrote, as sh would read it without expanding
    anything. Raises ValueError for a quote without its end."""
    return shlex.split(command)


def unit_word(word: str, *, in_command: bool) -> str:
    """The word as one of a command, or as an assignment, in a unit of systemd, with nothing in it
    expanded (systemd.service(5), "Command lines"). Raises ValueError for control characters."""
    if any(ord(char) < 32 for char in word):
        raise ValueError(f"{word[:60]!r} cannot stand in a unit")
    escaped = re.sub(r'["\\]', lambda match: "\\" + match[0], word).replace("%", "%%")
    return f'"{escaped.replace("$", "$$") if in_command else escaped}"'


def env_prefix(variables: Mapping[str, str]) -> str:
    """`env A='x' B='y'`, to stand before a command; empty without variables."""
    return f"env {assignments(variables)}" if variables else ""


def script(text: str, **variables: str) -> bytes:
    """A script for `sh -s`, with the variables set before its first line."""
    head = "".join(f"{assignments({name: value})}\n" for name, value in variables.items())
    return (head + text).encode()


def marked(command: str, mark: str) -> str:
    """`command` run by /bin/sh whatever the login shell is, its output and its errors each preceded
    by a line that holds only `mark`: what stands before came from the shell's start-up files."""
    head = f"printf '%s\\n' {mark}; printf '%s\\n' {mark} >&2; "
    return "exec /bin/sh -c " + quote(head + command)
