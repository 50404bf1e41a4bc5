"""Rows become tokens and the mask of what is learnt, in shards that are whole or not there. Several
processes share the blocks of a dataset; none of them loads torch.

A process of its own: `python -P -m remote.data.encode FOLDER PARTS PARENT`, with the recipe and the
tokenizer in FOLDER. It forks those with which it shares the work once it holds what all of them
read, a large vocabulary above all, so that each adds little to the memory of one. It prints as a
JSON line the first row that cannot be used, or the `errno` with which a disk refused a shard, or
nothing, and ends with KILLED where one of its forks was killed.
"""

import gc
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from remote.data.examples import Example, Examples
from remote.data.plain import Rendered
from remote.data.render import DataError, Style, render
from remote.data.rows import Problem
from remote.data.source import Source
from remote.data.tokenfile import COUNTS
from remote.files import write_atomic
from remote.processes import die_with_parent

BLOCK_ROWS = 4096  # row numbers of a shard
BATCH_ROWS, BATCH_CHARS = 64, 1 << 18
RECIPE, TOKENIZER = "recipe.json", "tokenizer.json"
REACH_CHARS, LEAST_REACH_CHARS = 16, 1 << 16  # per token of max_length; at least
AT_THE_CUT = 256  # tokens that may be others because a text is cut behind them
KILLED = 9  # this program's exit status


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that tells how the rows of a dataset become tokens, but for the tokenizer itself."""

    source: Source
    declared: str | dict[str, str]
    style: Style
    max_length: int

    def write(self, folder: Path) -> None:
        data = {
            "root": str(self.source.root),
            "names": self.source.names,
            "format": self.declared,
            "style": self.style.as_data(),
            "max_length": self.max_length,
        }
        write_atomic(folder / RECIPE, json.dumps(data).encode())

    @classmethod
    def read(cls, folder: Path) -> "Recipe":
        data = json.loads((folder / RECIPE).read_bytes())
        return cls(
            source=Source(root=Path(data["root"]), names=tuple(data["names"])),
            declared=data["format"],
            style=Style(**data["style"]),
            max_length=data["max_length"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """The first row of a part that cannot be used."""

    file: int
    row: int
    reason: str


def shards(folder: Path) -> list[Path]:
    """The finished shards, in the order of their rows."""
    return sorted(folder.glob("*.npz"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """What all who share the work read."""

    folder: Path
    recipe: Recipe
    tokenizer: Tokenizer

    @classmethod
    def read(cls, folder: Path) -> "Encoder":
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(folder=folder, recipe=Recipe.read(folder), tokenizer=tokenizer)


def drop_unfinished(folder: Path) -> None:
    """Removes what was being written by processes that are gone."""
    for part in folder.glob(".*"):
        part.unlink()


def encode_part(encoder: Encoder, part: int, parts: int) -> BadRow | None:
    """Writes the shards of every `parts`-th block that are not there yet. Ends at the first row
    that breaks its format: the plan was made for all rows, so none is left out silently."""
    folder, recipe, tokenizer = encoder.folder, encoder.recipe, encoder.tokenizer
    done = {path.name for path in shards(folder)}

    def mine(file: int, number: int) -> bool:
        block = (number - 1) // BLOCK_ROWS
        return block % parts == part and _shard(file, block) not in done

    examples = Examples(recipe.source, recipe.declared, mine)
    for (file, block), items in groupby(examples, key=_place_of(recipe.source)):
        written = _Block(max_length=recipe.max_length)
        for batch in _batches(items):
            last = batch[-1]
            rows = [item for item in batch if not isinstance(item, Problem)]
            try:
                rendered = [render(example, recipe.style) for example in rows]
            except DataError as error:
                return BadRow(file=file, row=rows[0].row, reason=str(error))
            encoded = begin_of([entry.text for entry in rendered], tokenizer, recipe.max_length)
            for example, entry, encoding in zip(rows, rendered, encoded, strict=True):
                written.add(example, entry, encoding)
            if isinstance(last, Problem):
                return BadRow(file=file, row=last.row, reason=str(last))
        written.save(folder / _shard(file, block))
    return None


def begin_of(texts: list[str], tokenizer: Tokenizer, max_length: int) -> list[Encoding]:
    """The tokens of each text; of one that is far longer than `max_length` tokens only a beginning
    that holds more than these, for a token takes up to a kilobyte of memory here."""
    reach = max(max_length * REACH_CHARS, LEAST_REACH_CHARS)
    encoded = tokenizer.encode_batch([text[:reach] for text in texts], add_special_tokens=False)
    return [
        encoding
        if len(text) <= reach or len(encoding) > max_length + AT_THE_CUT
        else tokenizer.encode(text, add_special_tokens=False)
        for text, encoding in zip(texts, encoded, strict=True)
    ]


def _shard(file: int, block: int) -> str:
    return f"{file:06d}.{block:08d}.npz"


def _place_of(source: Source) -> Any:
    names = {source.shown(file): file for file in range(len(source.names))}

    def place(item: Example | Problem) -> tuple[int, int]:
        file = names.get(item.file, 0) if isinstance(item, Problem) else item.file
        return file, max(item.row - 1, 0) // BLOCK_ROWS

    return place


def _batches(items: Iterator[Example | Problem]) -> Iterator[list[Example | Problem]]:
    """Runs of rows that are small in memory; a problem ends its run and all."""
    batch: list[Example | Problem] = []
    chars = 0
    for item in items:
        batch.append(item)
        if isinstance(item, Problem):
            break
        chars += item.chars
        if len(batch) == BATCH_ROWS or chars > BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


class _Block:
    """The rows of one shard."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._tokens: list[np.ndarray] = []
        self._labelled: list[np.ndarray] = []
        self._numbers: list[int] = []
        self._contents: list[int] = []
        self._counts = dict.fromkeys(COUNTS, 0)

    def add(self, example: Example, rendered: Rendered, encoding: Encoding) -> None:
        """A token is learnt when it begins inside a learnt span of the text; so the mask needs no
        assumption about how a template's pieces would be tokenised alone."""
        limit = self._max_length
        begins = np.array([begin for begin, _ in encoding.offsets], dtype=np.int64)
        mask = np.zeros(len(begins), dtype=bool)
        for first, last in rendered.spans:
            mask |= (begins >= first) & (begins < last)
        mask[:1] = False  # nothing comes before the first token from which to foretell it
        if len(begins) > limit:
            self._counts["truncated"] += 1
            untold = any(last > encoding.offsets[-1][1] for _, last in rendered.spans)
            self._counts["shortened"] += untold or bool(mask[limit:].any())
        if not mask[:limit].any():
            self._counts["skipped"] += 1
            return
        self._counts["hide_thinking"] += rendered.hides_thinking
        self._counts["hide_tools"] += rendered.hides_tools
        self._tokens.append(np.array(encoding.ids[:limit], dtype=np.int32))
        self._labelled.append(mask[:limit])
        self._numbers.append(example.row)
        content = hashlib.blake2b(rendered.text.encode(), digest_size=8).digest()
        self._contents.append(int.from_bytes(content, "little"))

    def save(self, path: Path) -> None:
        empty = np.empty(0, dtype=np.int32)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                np.savez(
                    file,
                    tokens=np.concatenate([empty, *self._tokens]).astype(np.int32),
                    labelled=np.concatenate([empty.astype(bool), *self._labelled]),
                    lengths=np.array([len(ids) for ids in self._tokens], dtype=np.int64),
                    label_counts=np.array([mask.sum() for mask in self._labelled], dtype=np.int64),
                    numbers=np.array(self._numbers, dtype=np.int64),
                    contents=np.array(self._contents, dtype=np.uint64),
                    counts=np.array([self._counts[name] for name in COUNTS]),
                )
                file.flush()
                os.fsync(file.fileno())  # else a power loss may leave an empty file of this name
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def encode_in_parts(encoder: Encoder, parts: int) -> BadRow | None:
    """Shares the blocks with forks of this process, which takes the first part. Returns the first
    row of all that cannot be used; raises ChildProcessError where a fork died, OSError where the
    disk refused a shard."""
    gc.freeze()  # a collection in a fork would copy what all of them share
    forks = get_context("fork")
    crew = []
    for part in range(1, parts):
        ours, theirs = forks.Pipe(duplex=False)
        process = forks.Process(
            target=_forked, args=(encoder, part, parts, os.getpid(), theirs), daemon=True
        )
        process.start()
        theirs.close()
        crew.append((process, ours))
    try:
        found = [encode_part(encoder, 0, parts)]
        for process, said in crew:
            try:
                outcome = said.recv()
            except EOFError:
                process.join()
                raise ChildProcessError(process.exitcode) from None
            if isinstance(outcome, OSError):
                raise outcome
            found.append(outcome)
    except OSError:  # also that a fork died
        for process, _ in crew:
            process.kill()
            process.join()
        drop_unfinished(encoder.folder)
        raise
    return min(filter(None, found), key=lambda bad: (bad.file, bad.row), default=None)


def _forked(encoder: Encoder, part: int, parts: int, parent: int, said: Connection) -> None:
    die_with_parent(parent)
    try:
        said.send(encode_part(encoder, part, parts))
    except OSError as error:
        said.send(error)


def main(arguments: list[str]) -> int:
    folder, parts, parent = arguments
    die_with_parent(int(parent))
    try:
        bad = encode_in_parts(Encoder.read(Path(folder)), int(parts))
    except ChildProcessError as error:
        return KILLED if error.args[0] < 0 else 1
    except OSError as error:
        print(json.dumps({"errno": error.errno}))
        return 0
    if bad is not None:
        print(json.dumps({"file": bad.file, "row": bad.row, "reason": bad.reason}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
