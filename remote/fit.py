"""Finds out, before the first step, whether the rows suit the model, and how this rank lays out and
holds its micro-batches; lowers how many samples lie in memory when it runs out later.

Every choice is said with its reason, and none changes what is learnt. Trains nothing.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import torch

from remote import cgroup, processes
from remote.base import ModelError
from remote.batches import Layout, Packed, pack
from remote.data.tokens import Batch, Dataset, Rows
from remote.engine import WorldError
from remote.model import Model
from remote.run import Run, Train
from remote.session import Say, Session

CALL_TOKENS = {"cpu": 64, "cuda": 1024}  # a GPU wants much to do at once
MOST_AT_ONCE = {"cpu": 16, "cuda": 64}  # more samples make no micro-batch faster
APART = 1e-4  # between losses of a sample packed and alone, in fp32
APART_ROUNDED = 5e-2  # where the model computes in bf16; a sample that sees another is far beyond
CHECKED_TOKENS = 128  # of each sample that packing is checked with
NO_ROOM = re.compile(r"can't allocate memory|out of memory|_ALLOC_FAILED|bad_alloc", re.IGNORECASE)
PEAK_RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")

Outcome = TypeVar("Outcome")


def check_reach(model: Model, data: Dataset, say: Say) -> None:
    """Refuses tokens for which the base has no embedding, and more tokens in a row than it has
    places for: a device would say of either that an index is out of range, if it said anything."""
    config = model.network.config.get_text_config()
    vocabulary, highest = config.vocab_size, data.training.highest_token
    if highest >= vocabulary:
        raise ModelError(
            f"the tokenizer writes token {highest} and {model.base_name} has embeddings for 0 to "
            f"{vocabulary - 1} only: they do not belong together; take the tokenizer that came "
            "with the model, or save the model with resized embeddings"
        )
    longest = max(int(rows.lengths.max(initial=0)) for rows in (data.training, data.validation))
    check_places(model, f"the longest row has {longest:,} tokens", longest, "max_length", say)


def check_places(model: Model, what: str, longest: int, keys: str, say: Say) -> None:
    """Refuses more tokens in a row than the base looks up places for, and says so where it works
    them out and was made for fewer. `keys` are what would make them fewer."""
    config = model.network.config.get_text_config()
    places = getattr(config, "max_position_embeddings", None)
    if places is None or longest <= places:
        return
    if _learns_places(model, config.vocab_size, places):
        raise ModelError(
            f"{what} and {model.base_name} has {places:,} places for them; lower {keys} to keep "
            "within"
        )
    scaling = getattr(config, "rope_parameters", None) or {}
    if scaling.get("rope_type", "default") == "default":
        say(
            f"{what} and {model.base_name} was made for {places:,} (max_position_embeddings), so "
            f"it may make little of what lies beyond; lower {keys} to keep within"
        )


def _learns_places(model: Model, vocabulary: int, places: int) -> bool:
    """Whether positions are looked up in a table, as GPT-2's are (OPT's begins with 2 that none
    has), and not worked out."""
    tables = (m for m in model.network.modules() if isinstance(m, torch.nn.Embedding))
    sizes = {table.num_embeddings for table in tables} - {vocabulary}
    return bool(sizes & {places, places + 2})


def choose_layout(run: Run, model: Model, rows: Rows, share: int, say: Say) -> Layout:
    """The layout that this rank begins with; `share` is how many samples of a step are its own."""
    settings, host = run.train, run.host
    if settings.gradient_checkpointing:  # before anything is measured
        model.checkpoint_gradients()
    if settings.torch_compile:
        say("compiling the model before the first step, which takes minutes (torch_compile)")
    kind = model.device.type
    size = settings.batch_size
    with _compiling(settings, host):
        packed = _packs(settings.packing, model, rows, host, say)
        if size is None:
            size = max(1, min(share, MOST_AT_ONCE[kind]))
            if kind == "cpu":  # a GPU says when it is full, and `warm_up` listens
                size = _samples_in_memory(model, rows, size, packed, free_bytes(run), say)
    return Layout(size=size, packed=packed, call_tokens=CALL_TOKENS[kind])


def warm_up(session: Session, say: Say) -> None:
    """Computes the largest micro-batch and forgets it. Where it does not fit, fewer samples at once
    are tried, then gradient checkpointing; a rank that cannot hold one sample fails now."""
    settings, model, rows, layout = session.settings, session.model, session.rows, session.layout
    spare = settings.gradient_checkpointing is None
    asked = layout.size
    while True:
        try:
            with _compiling(settings, session.own.host):
                model.token_loss(largest_batch(rows, layout, model.pad_id)).backward()
            break
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        session.gradients.clear()
        torch.cuda.empty_cache()
        if layout.size > 1:
            layout.size //= 2
        elif spare:
            spare, layout.size = False, asked
            model.checkpoint_gradients()
            say(
                f"gradient checkpointing is on, because without it one sample of "
                f"{int(rows.lengths.max())} tokens does not fit into the memory of {model.device}"
            )
        else:
            raise WorldError(
                f"one sample of {int(rows.lengths.max())} tokens does not fit into the memory of "
                f"{model.device} on {session.own.host}; lower max_length, or train a smaller model"
            ) from None
    session.gradients.clear()
    if layout.size < asked:
        say(
            f"batch_size is {layout.size} instead of {asked}, because {asked} samples of up to "
            f"{int(rows.lengths.max())} tokens do not fit into the memory of {model.device}; what "
            "is learnt stays the same"
        )


@contextmanager
def _compiling(settings: Train, host: str) -> Iterator[None]:
    """Says in a sentence why torch.compile gave up, where it was asked for."""
    if not settings.torch_compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ModelError(
            f"torch_compile does not work on {host}: {reason}; set torch_compile: false, or see "
            "that the host has a C++ compiler (g++)"
        ) from error


def largest_batch(rows: Rows, layout: Layout, pad_id: int) -> Batch | Packed:
    """The micro-batch that needs the most memory."""
    longest = rows.lengths.argsort(kind="stable")[-layout.size :]
    if layout.packed:
        return pack(rows, [longest[i : i + 1] for i in range(len(longest))], pad_id)
    return rows.batch(longest, pad_id)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no room. Only torch's allocator for GPUs has an error of its own for it;
    its one for CPUs, CUDA, cuBLAS and cuDNN say it in words, numpy and C++ as Python does."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and NO_ROOM.search(str(error)) is not None


def in_memory(
    layout: Layout, compute: Callable[[], Outcome], say: Say, undo: Callable[[], object]
) -> Outcome | None:
    """What `compute` gives, begun anew with half as many samples at once whenever memory runs out,
    after `undo` of what it had done; None where there is no room for a single sample."""
    while True:
        try:
            return compute()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        undo()
        if not shrink(layout, say):
            return None


def shrink(layout: Layout, say: Say) -> bool:
    """Halves the samples at once after memory ran out; False where it was one."""
    torch.cuda.empty_cache()
    if layout.size == 1:
        return False
    layout.size //= 2
    say(
        f"memory ran out, so this is computed again with {layout.size} samples at once; what is "
        "learnt stays the same"
    )
    return True


def leak(model: Model, rows: Rows) -> str | None:
    """What is wrong when samples are packed into one line, or None: each must be foretold as if
    alone, and what a sample holds must not touch the one behind it."""
    lines = [line[:CHECKED_TOKENS] for line in _check_samples(rows)]
    foreign = (lines[0] + 1) % int(max(line.max() for line in lines) + 1)
    packed = _token_losses(model, lines)
    alone = torch.cat([_token_losses(model, [line]) for line in lines])
    beside_another = _token_losses(model, [foreign, *lines[1:]])
    own = slice(len(lines[0]) - 1, None)  # the losses of all samples but the first
    touched = float((packed[own] - beside_another[own]).abs().max())
    if not touched <= APART:
        return f"a sample's loss moves by {touched:.1e} with what lies before it in its line"
    allowed = APART if model.autocast is None else APART_ROUNDED
    apart = float((packed - alone).abs().mean() if model.autocast else (packed - alone).abs().max())
    if not apart <= allowed:
        return f"losses of packed samples are {apart:.1e} from those of the same samples alone"
    return None


def _packs(wanted: bool | None, model: Model, rows: Rows, host: str, say: Say) -> bool:
    if wanted is False:
        return False
    if wanted is None and model.device.type == "cpu":
        return False  # attention over a packed line costs a CPU more than a little padding does
    if reason := leak(model, rows):
        say(
            f"samples are not packed on {host}, because this model does not keep them apart: "
            f"{reason}; those of like length lie side by side instead"
        )
        return False
    say(
        f"samples are packed on {host}: the model keeps them apart, as one packed line and its "
        "parts show"
    )
    return True


def _check_samples(rows: Rows) -> list[np.ndarray]:
    """Tokens of three samples of middling length (of one, three times, where there is one)."""
    by_length = rows.lengths.argsort(kind="stable")
    middle = by_length[len(by_length) // 2 :][:3]
    chosen = [rows.tokens[rows.offsets[row] : rows.offsets[row + 1]] for row in middle]
    return (chosen * 3)[:3]


@torch.no_grad()
def _token_losses(model: Model, lines: list[np.ndarray]) -> torch.Tensor:
    """The loss of every token but each sample's first, of samples packed into one line."""
    tokens = np.concatenate(lines).astype(np.int64)[None]
    positions = np.concatenate([np.arange(len(line)) for line in lines])[None]
    batch = Packed(ids=tokens, positions=positions, labelled=positions > 0)
    ids = torch.from_numpy(tokens).to(model.device)
    before = torch.from_numpy(positions[0, 1:] > 0).nonzero().squeeze(1).to(model.device)
    training = model.network.training
    model.network.eval()  # the adapter's dropout is chance, and would look like a leak
    try:
        logits = model.logits(batch, ids, before)[0].float()
    finally:
        model.network.train(training)
    return torch.nn.functional.cross_entropy(logits, ids[0, before + 1], reduction="none")


def free_bytes(run: Run) -> int:
    """What this rank may still take of its host's memory: what is there, what the control groups
    above grant, and what the run's own limit leaves beside rank and launcher."""
    rooms = [psutil.virtual_memory().available, cgroup.memory_left()]
    if run.ram_bytes is not None:
        rooms.append(run.ram_bytes - processes.own_bytes({os.getpid(), os.getppid()}))
    return max(0, min(room for room in rooms if room is not None))


def _samples_in_memory(
    model: Model, rows: Rows, most: int, packed: bool, free: int, say: Say
) -> int:
    """As many of the longest samples as half of the `free` memory holds, from what one takes."""
    one = largest_batch(rows, Layout(size=1, packed=packed), model.pad_id)
    taken = max(_peak_growth(lambda: model.token_loss(one).backward()), 1)
    size = 1
    while size < most and 2 * size * taken <= free // 2:
        size *= 2
    size = min(size, most)
    say(
        f"batch_size auto is {size}: one sample of {int(rows.lengths.max())} tokens takes "
        f"{taken / 2**20:,.0f} MiB, {free / 2**30:,.1f} GiB are free, and at most {most} are of use"
    )
    return size


def _peak_growth(compute: Callable[[], None]) -> int:
    """By how many bytes memory grows at most while `compute` runs."""
    with suppress(OSError):  # where a container forbids it, only what exceeds the old peak is seen
        PEAK_RESET.write_text("5")
    before = psutil.Process().memory_info().rss
    compute()
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return int(peak) * 1024 - before
