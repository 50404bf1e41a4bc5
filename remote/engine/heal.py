"""The state of a rank as one flat vector, and its way to those who need it. Nothing is pickled; who
needs it is decided elsewhere."""

import json
from collections.abc import Sequence
from typing import Any

import torch

from remote.engine import State, WorldError
from remote.engine.group import Abandoned, Group, Pace
from remote.engine.quorum import Go

PIECE = 1 << 21  # fp32 numbers copied at once: 8 MiB
_HEAD = 2  # fp32 numbers whose bits hold the length of the note


def pack(tensors: Sequence[torch.Tensor], note: Any) -> torch.Tensor:
    """One fp32 vector in CPU memory: the tensors, and a note (JSON) that stands in the bits of a
    few numbers, because counts above 2**24 are no fp32 numbers."""
    text = json.dumps(note).encode()
    head = torch.tensor([len(text)], dtype=torch.int64).view(torch.float32)
    padded = torch.frombuffer(bytearray(text + bytes(-len(text) % 4)), dtype=torch.float32)
    parts = [tensor.detach().float().cpu().reshape(-1) for tensor in tensors]
    return torch.cat([head, padded, *parts])


def unpack(flat: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """The numbers of all tensors in their order, and the note."""
    length = int(flat[:_HEAD].view(torch.int64).item())
    begin = _HEAD + -(-length // 4)
    text = bytes(flat[_HEAD:begin].view(torch.uint8)[:length].tolist())
    return flat[begin:], json.loads(text)


def copy_over(group: Group, flat: torch.Tensor | None, pace: Pace) -> torch.Tensor:
    """Gives rank 0's vector to everybody in the group. The others come without one."""
    size = torch.tensor([0 if flat is None else flat.numel()])
    group.copy(size, pace.limit_s(size.nbytes))
    whole = torch.empty(int(size.item())) if flat is None else flat
    for piece in whole.split(PIECE):
        group.copy(piece, pace.limit_s(piece.nbytes))
    return whole


def heal(ruling: Go, group: Group, state: State, pace: Pace, abandoned: Abandoned) -> bool:
    """The source copies its state to the patients, in a group of theirs; everybody else goes on
    meanwhile. True where it was `state` that was healed."""
    place = {voice.slot: number for number, voice in enumerate(ruling.members)}
    patients = [place[voice.slot] for voice in ruling.patients]
    source = place[ruling.source.slot]
    if group.rank not in (source, *patients):
        return False
    # A name may serve once: its store still holds where the last ward met.
    ward = group.within(f"heal {ruling.source.step}", [source, *patients])
    try:
        flat = copy_over(ward, state.flatten() if ward.rank == 0 else None, pace)
    finally:
        abandoned.take(ward)
    if ward.rank == 0:
        return False
    state.load(flat)
    if (state.step, state.digest()) != (ruling.source.step, ruling.source.digest):
        own = ruling.members[group.rank]
        raise WorldError(
            f"the weights that {own.name} received from {ruling.source.name} are not those that it "
            f"sent; check the memory of {own.host}, and start again from the last checkpoint"
        )
    return True
