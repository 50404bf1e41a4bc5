"""The one tree of errors. Each says what went wrong and where in its message, and what to do next.

SollolError
├── InputError            an inventory, job file, option or dataset cannot be used (file:line:col)
├── NotFoundError         no such job, host or file
├── StateError            the state folder or its database cannot be used
├── HostError             one host; carries its name
│   ├── UnreachableError      name, route, refused, timeout, connection lost
│   ├── HostKeyError          unknown or changed
│   ├── AuthenticationError
│   ├── CommandError          a command there failed or said nonsense
│   ├── TransferError
│   └── UnsuitableError       cannot train: no Python, no space, no such GPU
├── NoWorkersError        too few hosts are suitable now; carries the reason of each
├── WaitError             what was waited for has not come yet
└── JobError              the job is not in a state for that, or failed
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sollol_tui.model.text import clean


class SollolError(Exception):
    """`message` says what and why, `remedy` what to do next; both are one sentence for a person.
    `key` is the setting of a job that it is about, where that is known."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.key = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


@contextmanager
def concerning(key: str) -> Iterator[None]:
    """Says of which setting of a job an error inside tells."""
    try:
        yield
    except SollolError as error:
        error.key = error.key or key
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a file. Lines and columns count from 1; 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}  {self.message}"


class InputError(SollolError):
    """All problems of one input at once, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def single(cls, file: str, message: str) -> "InputError":
        return cls([Problem(file=file, message=message)])


class NotFoundError(SollolError):
    pass


class StateError(SollolError):
    pass


class HostError(SollolError):
    def __init__(self, host: str, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.host = host

    def __str__(self) -> str:
        return f"{self.host}: {super().__str__()}"


class UnreachableError(HostError):
    pass


class HostKeyError(HostError):
    pass


class AuthenticationError(HostError):
    pass


class CommandError(HostError):
    pass


class TransferError(HostError):
    pass


class UnsuitableError(HostError):
    pass


def unexpected(host: str, error: Exception) -> HostError:
    """One host's part of an error that is a defect of ours, in one line."""
    said = clean(str(error), limit=300)
    return HostError(
        host,
        f"failed unexpectedly: {type(error).__name__}{': ' if said else ''}{said}",
        remedy="this is a defect of sollol; please report it with these words",
    )


class NoWorkersError(SollolError):
    """`reasons` maps each host that cannot take part to why; `wait` says what it would help to wait
    for, "" for nothing."""

    def __init__(
        self, message: str, reasons: Mapping[str, str], *, remedy: str = "", wait: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = dict(reasons)
        self.wait = wait


class WaitError(SollolError):
    pass


class JobError(SollolError):
    pass
