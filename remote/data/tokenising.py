"""A dataset's tokens: made once, kept on the worker, shared by its jobs and ranks. Knows the
tokenizer, not the model."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from remote.data.encode import (
    BLOCK_ROWS,
    KILLED,
    TOKENIZER,
    BadRow,
    Encoder,
    Recipe,
    drop_unfinished,
    encode_part,
    shards,
)
from remote.data.examples import Examples, Text
from remote.data.hub import fetch
from remote.data.render import DataError, Style
from remote.data.rows import Problem
from remote.data.source import Source, SourceError, content_hash, find_source, named_hash
from remote.data.tokenfile import Stored, merge, split, stored
from remote.data.tokens import Dataset, sides_of

PAYLOAD = Path(__file__).resolve().parents[2]
MAKERS = (
    "encode",
    "examples",
    "formats",
    "parquet",
    "plain",
    "render",
    "rows",
    "source",
    "tokenfile",
    "turns",
)
MOST_PROCESSES = 4  # a rank with so many beside it stays below 600 MB
TOLD_EVERY_S = 20.0
SMALL_BYTES = 4 << 20  # encoded sooner than a process starts


def tokenise(
    dataset: str | Path,
    declared: str | Mapping[str, str],
    tokenizer: Any,
    max_length: int,
    *,
    folder: Path,
    processes: int = 1,
    val_size: float = 0.0,
    say: Callable[[str], None] = print,
) -> Dataset:
    """The dataset's tokens from `folder`, made there if nobody has made them yet. One process
    makes them and the others wait. Raises DataError for a row that breaks its format, when nothing
    is left to train on, and when the disk refuses; a row whose answer lies wholly beyond
    `max_length` tokens is skipped and counted."""
    try:
        source = fetch(str(dataset), say) or find_source(dataset)
        style = Style.of(tokenizer)
        serialised = tokenizer.backend_tokenizer.to_str()
        declared = declared if isinstance(declared, str) else dict(declared)
        recipe = Recipe(source=source, declared=declared, style=style, max_length=max_length)
        target = folder / _key(recipe, serialised)
    except SourceError as error:
        raise DataError(f"{dataset}: {error}") from error
    except OSError as error:
        raise DataError(f"{dataset} cannot be read: {error.strerror}") from error
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _alone(target, say):
            whole = stored(target)
            if whole is None:
                whole = _make(recipe, serialised, target, processes, say)
            else:
                say(f"the tokens of {source.title} are here from an earlier start")
            if val_size:
                part = target / f"split-{val_size!r}"
                whole = stored(part) or split(whole, val_size, part)
    except OSError as error:
        raise DataError(_refused(error, source, folder)) from error
    _tell_hidden(whole.manifest, say)
    return sides_of(whole, source, max_length, val_size)


def _refused(error: OSError, source: Source, folder: Path) -> str:
    room = ""
    with suppress(OSError):
        room = f" ({shutil.disk_usage(folder).free / 2**20:,.0f} MiB are free there)"
    return (
        f"the tokens of {source.title} cannot be kept in {folder}: {error.strerror}{room}; make "
        "room, or let this account write there, and start again, which goes on from here"
    )


def _tell_hidden(about: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Says what rows hold and the model is not shown, so that nobody waits for it to be learnt."""
    template = "the plain template" if about["template"] == "plain" else "the chat template"
    if rows := about["hide_thinking"]:
        say(f"{rows:,} rows hold thinking that {template} does not show there: it is not learnt")
    if rows := about["hide_tools"]:
        say(
            f"{rows:,} rows name tools that {template} does not show: answers are learnt without "
            "them; a model whose template knows tools would see them"
        )
    if unread := about["unread"]:
        say(f"no part of format {about['format']}, so not read: {', '.join(unread)}")


def _key(recipe: Recipe, serialised: str) -> str:
    """What decides the tokens, the code that makes them included."""
    code = hashlib.sha256()
    for name in MAKERS:
        code.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    parts = [
        code.hexdigest(),
        [version(package) for package in ("tokenizers", "transformers", "numpy")],
        named_hash(recipe.source) or content_hash(recipe.source),
        recipe.source.names
        if len(recipe.source.names) > 1
        else Path(recipe.source.names[0]).suffix,
        hashlib.sha256(serialised.encode()).hexdigest(),
        recipe.style.as_data(),
        recipe.max_length,
        recipe.declared,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def _alone(target: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a token file: the kernel drops it when its holder dies."""
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another rank or job tokenises this dataset on this host; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(
    recipe: Recipe, serialised: str, target: Path, processes: int, say: Callable[[str], None]
) -> Stored:
    began = time.monotonic()
    source = recipe.source
    first = next(iter(examples := Examples(source, recipe.declared)))
    if isinstance(first, Problem) and examples.format is None:
        raise DataError(_said(source, first))
    work = target.with_name(f"{target.name}.work")
    work.mkdir(exist_ok=True, mode=0o700)
    drop_unfinished(work)
    if there := len(shards(work)):
        say(f"{source.title}: going on after {there} shards that an earlier start finished")
    (work / TOKENIZER).write_text(serialised)
    recipe.write(work)
    processes = min(processes, MOST_PROCESSES, 1 + source.size_bytes // SMALL_BYTES)
    if processes == 1:
        bad = encode_part(Encoder.read(work), 0, 1)
    else:
        bad = _encode_in_parts(work, processes, say)
    if bad is not None:
        raise DataError(f"{source.title}, {bad.reason}")
    template = "none" if isinstance(first, Text) else recipe.style.name
    assert examples.format is not None
    about = {
        "template": template,
        "format": examples.format.name,
        "unread": [] if isinstance(first, Problem) else list(first.unread),
    }
    whole = merge(shards(work), target, about)
    shutil.rmtree(work)
    took = time.monotonic() - began
    makers = "one process" if processes == 1 else f"{processes} processes"
    say(f"tokenised {source.title} in {took:.1f} s with {makers}")
    return whole


def _said(source: Source, problem: Problem) -> str:
    return f"{problem}" if problem.file else f"{source.title}, {problem}"


def _encode_in_parts(work: Path, parts: int, say: Callable[[str], None]) -> BadRow | None:
    """Encodes with several processes, none of which is a fork of this one, which holds torch."""
    command = [sys.executable, "-P", "-m", "remote.data.encode"]
    environment = os.environ | {
        "PYTHONPATH": str(PAYLOAD),
        "TOKENIZERS_PARALLELISM": "false",
        "OPENBLAS_NUM_THREADS": "1",  # numpy's, which a process that forks must not have
    }
    with subprocess.Popen(
        [*command, str(work), str(parts), str(os.getpid())],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            output = _output(process, work, say)
        finally:
            process.kill()
    if process.returncode in (KILLED, -signal.SIGKILL):
        raise DataError(
            "a process that tokenises was killed, for want of memory most likely; end what else "
            "runs on this host, or lower cpu_cores, so that fewer tokenise at once"
        )
    if process.returncode:
        raise DataError(
            f"tokenising ended with {process.returncode} before it was done; the log says why"
        )
    if not output:
        return None
    told = json.loads(output)
    if "errno" in told:
        raise OSError(told["errno"], os.strerror(told["errno"]))
    return BadRow(**told)


def _output(process: subprocess.Popen[bytes], work: Path, say: Callable[[str], None]) -> bytes:
    while True:
        try:
            return process.communicate(timeout=TOLD_EVERY_S)[0]
        except subprocess.TimeoutExpired:
            say(f"tokenised about {len(shards(work)) * BLOCK_ROWS:,} rows so far")
