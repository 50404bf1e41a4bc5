"""Rows of the state as values, and the JSON of the things that are stored whole."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sollol_tui.model.snapshot import Keyed
from sollol_tui.model.states import JobState, WorkerState

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_ADAPTERS: "Final[dict[type[Any], TypeAdapter[Any]]]" = {}  # each takes long to make


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job as its supervisor needs it; `spec`, `plan` and `inventory` are JSON (`load`)."""

    id: str
    nonce: str
    name: str
    state: JobState
    spec: str
    plan: str
    inventory: str
    model: str
    dataset: str
    output_dir: str
    generation: int
    main_port: int | None
    turn: int = 0  # in the queue; lower ones go first
    same_hosts: tuple[str, ...] = ()  # it goes on with all of these, whatever its spec says


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """`tries` counts how often a lost worker was brought back in vain or not for long, `tried_at`
    is when it was last looked for or launched again, on the coordinator's clock, and `unseen_since`
    when it went out of sight, None while it is seen."""

    host: str
    state: WorkerState
    slots: tuple[int, ...]
    share: float
    environment: dict[str, Any] | None
    run_dir: str | None
    reason: str = ""
    tries: int = 0
    tried_at: float | None = None
    unseen_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipRequest:
    """That a host shall join or leave a job."""

    kind: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord(Keyed):
    """One stored event and who said it. Of two, the one that was heard later has the higher
    `number`."""

    host: str
    slot: int | None
    at: float
    seen_at: float
    attempt: int
    generation: int
    kind: str
    data: dict[str, Any]
    number: int = 0


def dump(value: Any) -> str:
    return json.dumps(asdict(value), separators=(",", ":"))


def load(kind: type[T], text: str) -> T:
    """The dataclass that `dump` wrote. Keys that a newer sollol added are passed over, though in a
    file that people write they are mistakes."""
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter  # late: most commands read nothing with it

        _ADAPTERS[kind] = TypeAdapter(kind)
    loaded: T = _ADAPTERS[kind].validate_json(text, extra="ignore")
    return loaded
