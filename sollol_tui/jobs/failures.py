"""What an exception says of a job: which host, in which words, and whether it is this machine that
has a problem. Pure."""

import sqlite3

from sollol_tui.jobs.progress import Failure
from sollol_tui.jobs.watch import RunFailedError
from sollol_tui.model.errors import HostError, SollolError, StateError


def is_ours(error: BaseException) -> bool:
    """Whether it is this machine that has a problem, and none of the workers."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_ours(inner) for inner in error.exceptions)
    return isinstance(error, StateError | OSError | sqlite3.Error)


def first_of(error: BaseException) -> BaseException:
    """The exception itself, or the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def failure_of(error: BaseException) -> Failure:
    """What to tell people about an exception; a group tells its first."""
    error = first_of(error)
    match error:
        case RunFailedError():
            return error.failure
        case HostError():
            reason = "; ".join(filter(None, [error.message, error.remedy]))
            return Failure(host=error.host, reason=reason)
        case SollolError():
            return Failure(host="", reason=str(error))
        case OSError(filename=str(file), strerror=str(why)):
            return Failure(host="", reason=f"{file} cannot be used: {why}")
        case _:
            return Failure(host="", reason=f"sollol itself failed: {type(error).__name__}: {error}")
