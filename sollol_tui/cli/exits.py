"""What the exit status of `sollol` means."""

from collections.abc import Sequence
from enum import IntEnum

from sollol_tui.model.errors import (
    AuthenticationError,
    HostKeyError,
    InputError,
    NotFoundError,
    NoWorkersError,
    SollolError,
    WaitError,
)


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    DOWN = 3  # status --check: something is down
    AUTHENTICATION = 4  # or a host key
    NOT_FOUND = 5  # no such job, host or file
    JOB_FAILED = 6  # the job itself failed or was cancelled
    NO_WORKERS = 7  # no suitable workers now
    TIMEOUT = 124
    INTERRUPTED = 130


def exit_code_of(error: SollolError) -> ExitCode:
    match error:
        case InputError():
            return ExitCode.USAGE
        case HostKeyError() | AuthenticationError():
            return ExitCode.AUTHENTICATION
        case NotFoundError():
            return ExitCode.NOT_FOUND
        case NoWorkersError():
            return ExitCode.NO_WORKERS
        case WaitError():
            return ExitCode.TIMEOUT
        case _:
            return ExitCode.FAILED


def exit_code_of_all(errors: Sequence[SollolError]) -> ExitCode:
    """The code of several hosts' errors: theirs where they agree."""
    codes = {exit_code_of(error) for error in errors}
    if not codes:
        return ExitCode.OK
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED
