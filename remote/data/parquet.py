"""Rows of a parquet file, read in batches through pyarrow, which only workers have. Says nothing
about what columns mean."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remote.data.rows import Problem, Row, Wanted

BATCH_ROWS = 1024


def read_parquet(path: Path, wanted: Wanted) -> Iterator[Row | Problem]:
    """Yields every wanted row with its place (from 1), or what is wrong with the file."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        yield _whole(f"{path.name} cannot be read: this Python lacks pyarrow")
        return
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if twice := [name for name in names if names.count(name) > 1]:
                yield Problem(row=0, column=twice[0], reason="is the name of two columns")
                return
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for place in range(batch.num_rows):
                    number += 1
                    if wanted(number):
                        yield _row(batch, names, place, number)
    except (OSError, pyarrow.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        yield Problem(row=number and number + 1, column=None, reason=f"cannot be read: {reason}")
        return
    if not number:
        yield _whole(f"{path.name} holds no rows")


def _row(batch: Any, names: list[str], place: int, number: int) -> Row | Problem:
    row = {}
    for column, name in enumerate(names):
        try:
            value = batch.column(column)[place].as_py(maps_as_pydicts="strict")
        except (ValueError, OverflowError, KeyError) as error:
            # Text that is not UTF-8, dates beyond 9999, a key that a map has twice.
            return Problem(row=number, column=name, reason=f"cannot be read: {error}")
        row[name] = _written(value)
    return number, row


def _written(value: Any) -> Any:
    """A value without what was never written: an object shows every key that some row has."""
    if isinstance(value, list):
        return [_written(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _written(entry) for key, entry in value.items() if entry is not None}
    return value


def _whole(reason: str) -> Problem:
    return Problem(row=0, column=None, reason=reason)
