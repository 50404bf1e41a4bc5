"""A dataset as token arrays with the mask of what is learnt: rows, batches of them, and the two
sides of a dataset. Makes no tokens."""

from dataclasses import dataclass

import numpy as np

from remote.data.render import DataError
from remote.data.source import Source
from remote.data.tokenfile import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples padded to the longest: three arrays of shape (samples, longest)."""

    ids: np.ndarray  # int64
    attention: np.ndarray  # int64, 0 on padding
    labelled: np.ndarray  # bool: this token is an answer's; never true in the first column


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows that can be trained on, laid end to end."""

    tokens: np.ndarray  # int32, all rows; mapped from the token file
    labelled: np.ndarray  # bool, as long as tokens
    offsets: np.ndarray  # int64, one more than rows
    lengths: np.ndarray  # int64
    label_counts: np.ndarray  # int64, tokens of each row that the loss counts
    numbers: np.ndarray  # int64, the row's number in its file
    files: np.ndarray  # int32, which of the dataset's files
    file_names: tuple[str, ...]
    skipped: int  # rows without an answer token within max_length
    truncated: int  # rows cut at max_length, those skipped among them
    shortened: int  # rows that lost answer tokens, those skipped among them
    highest_token: int  # of the dataset
    template: str  # "tokenizer", "plain" or, for plain text, "none"
    digest: str  # equal on two ranks exactly when they train on the same tokens and labels

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Where a person finds a row."""
        where = f"row {self.numbers[row]}"
        if len(self.file_names) == 1:
            return where
        return f"{self.file_names[self.files[row]]} {where}"

    def batch(self, rows: np.ndarray, pad_id: int) -> Batch:
        longest = int(self.lengths[rows].max())
        ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
        attention = np.zeros_like(ids)
        labelled = np.zeros(ids.shape, dtype=bool)
        for line, row in enumerate(rows):
            begin, end = self.offsets[row], self.offsets[row + 1]
            ids[line, : end - begin] = self.tokens[begin:end]
            attention[line, : end - begin] = 1
            labelled[line, : end - begin] = self.labelled[begin:end]
        return Batch(ids=ids, attention=attention, labelled=labelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The two sides of one token file; `validation` has no rows unless a part was asked for."""

    training: Rows
    validation: Rows


def sides_of(whole: Stored, source: Source, max_length: int, val_size: float) -> Dataset:
    count = whole.training
    if not count:
        total = int(whole.manifest["skipped"])
        if whole.manifest["rows"]:
            raise DataError(
                f"{source.title}: val_size {val_size:g} leaves no row to train on; lower it"
            )
        if not int(whole.manifest["truncated"]):
            raise DataError(
                f"{source.title}: none of its {total} rows has an answer to learn, all are empty; "
                "sollol dataset show tells what is read as one"
            )
        raise DataError(
            f"{source.title}: none of its {total} rows has an answer within {max_length} tokens; "
            "raise max_length"
        )
    training, validation = whole.manifest["digests"]
    return Dataset(
        training=_rows(whole, source, slice(0, count), training),
        validation=_rows(whole, source, slice(count, None), validation),
    )


def _rows(whole: Stored, source: Source, side: slice, digest: str) -> Rows:
    lengths = whole.array("lengths")
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    own = lengths[side]
    begin = int(ends[:-1][side][0]) if len(own) else 0
    span = slice(begin, begin + int(own.sum()))
    about = whole.manifest
    return Rows(
        tokens=whole.array("tokens")[span],
        labelled=whole.array("labelled")[span],
        offsets=np.concatenate([[0], np.cumsum(own)]).astype(np.int64),
        lengths=own,
        label_counts=whole.array("label_counts")[side],
        numbers=whole.array("numbers")[side],
        files=whole.array("files")[side],
        file_names=source.names,
        skipped=about["skipped"],
        truncated=about["truncated"],
        shortened=about["shortened"],
        highest_token=about["highest_token"],
        template=about["template"],
        digest=digest,
    )
