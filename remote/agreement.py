"""What ranks compare before and while they train: who would drift apart is refused by name."""

import json
from collections.abc import Mapping

import torch

from remote.data.tokens import Rows
from remote.engine import Engine, WorldError
from remote.model import Model

TOLERANCE = 1e-4  # between ranks that compute with different hardware


def terms(model: Model, rows: Rows) -> dict[str, str]:
    """What must be equal on all ranks before a step can be shared."""
    return {
        "torch": torch.__version__.partition("+")[0],
        "rows": str(len(rows)),
        "tokens and labels": rows.digest,
        "first adapter weights": model.digest(),
    }


def agree_to_start(engine: Engine, own: Mapping[str, str]) -> None:
    """Refuses ranks that would not train the same thing: other versions, data or first weights."""
    said = engine.exchange(json.dumps(dict(own)))
    ranks = {rank.slot: rank for rank in engine.members().ranks}
    first = min(said)
    expected = json.loads(said[first])
    for slot in sorted(said):
        for what, value in json.loads(said[slot]).items():
            if value != expected[what]:
                raise WorldError(
                    f"{ranks[slot].host} (slot {slot}) has other {what} than {ranks[first].host} "
                    f"(slot {first}): {value} against {expected[what]}; they must be equal on all "
                    "workers before a step can be shared"
                )


def agree_on_weights(engine: Engine, model: Model) -> None:
    """Compares what the ranks hold: equal bits where they compute alike, else within TOLERANCE
    of the first rank's, which all then take over. A difference is refused by name; an engine that
    heals has found and mended one within a kind by itself."""
    members = engine.members()
    if len(members.ranks) == 1:
        return
    digest = "" if engine.heals else model.digest()
    words = engine.exchange(json.dumps([model.numerics, digest]))
    said = {slot: json.loads(word) for slot, word in words.items()}
    hosts = {rank.slot: rank.host for rank in members.ranks}
    pioneers: dict[str, int] = {}
    for slot, (numerics, digest) in sorted(said.items()):
        other = pioneers.setdefault(numerics, slot)
        if said[other][1] != digest:
            raise WorldError(
                f"the adapter of {hosts[slot]} (slot {slot}) is no longer that of {hosts[other]} "
                f"(slot {other}), although both compute with {numerics}; check that host's memory, "
                "and start again from the last checkpoint"
            )
    if len(pioneers) == 1:
        return
    own = model.flat_weights()
    reference = own.clone()
    engine.copy_from_first(reference)
    apart = float((own - reference).abs().max() / reference.abs().max().clamp_min(1e-12))
    distances = engine.exchange(json.dumps(apart))
    for slot, distance in sorted(distances.items()):
        if not json.loads(distance) <= TOLERANCE:
            raise WorldError(
                f"the adapter of {hosts[slot]} (slot {slot}) is {json.loads(distance):.1e} away "
                f"from that of {hosts[members.ranks[0].slot]}; {TOLERANCE:g} is allowed between "
                f"{' and '.join(pioneers)}"
            )
    model.set_flat_weights(reference)
