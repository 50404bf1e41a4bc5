"""What happened to a job and why, as sentences for people: made of what workers and the coordinator
noted down. Pure; knows no file and no table."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sollol_tui.model.events import finite, whole
from sollol_tui.model.names import COORDINATOR
from sollol_tui.model.snapshot import EvaluationView
from sollol_tui.model.states import JobState, WorkerState
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes

FIGURES: Final = frozenset(
    {"loading", "sample", "step", "host_metrics", "told", "speed", "weights"}
)
"""Kinds of events that say how far something is, and tell nobody why."""
WORTH_TELLING: Final = frozenset({"transition", "worker", "stuck"})
"""Kinds among which `occasion` finds what somebody wants to be told who does not look."""
_MOST: Final = 600  # characters of a sentence

_STATES: Final[Mapping[JobState, str]] = {
    JobState.QUEUED: "waits in the queue",
    JobState.PLANNING: "has its workers",
    JobState.PROVISIONING: "prepares its workers",
    JobState.STARTING: "starts its ranks",
    JobState.RUNNING: "trains",
    JobState.RECOVERING: "recovers",
    JobState.PAUSING: "is told to pause after a checkpoint",
    JobState.PAUSED: "is paused",
    JobState.STOPPING: "is told to stop",
    JobState.FINISHING: "has trained to its end",
    JobState.DONE: "is done",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "is cancelled",
}
_REQUESTS: Final = {"kill": "cancel it at once", "cancel": "cancel it", "pause": "pause it"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing as it was noted down, not yet in words. `seen_at` is when the coordinator heard of
    it, on its own clock; `at` is the clock of who said it. `key` tells it from every other one."""

    key: str
    job: str
    kind: str  # an event's, or `transition` or `request`
    seen_at: float
    at: float
    host: str = ""
    slot: int | None = None
    attempt: int = 0
    generation: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A note in words. `host` is "" where it concerns the job as a whole."""

    key: str
    job: str
    kind: str
    seen_at: float
    at: float
    host: str
    slot: int | None
    sentence: str
    data: Mapping[str, Any]

    def as_data(self) -> dict[str, Any]:
        """The object behind `sollol events --json`."""
        return {"schema": "sollol.event/1", **asdict(self)}


def tell(notes: Iterable[Note]) -> Iterator[Happening]:
    """The notes in words, in their order. What says nothing new is left out: a notice that another
    rank has given, and the agent's word on a rank that has told its failure itself."""
    told: set[tuple[Any, ...]] = set()
    for note in notes:
        said = _said_before(note)
        if said is not None:
            if said in told:
                continue
            told.add(said)
        if sentence := _sentence(note):
            yield Happening(
                key=note.key,
                job=note.job,
                kind=note.kind,
                seen_at=note.seen_at,
                at=note.at,
                host=note.host,
                slot=note.slot,
                sentence=clean(sentence, limit=_MOST),
                data=note.data,
            )


def occasion(happening: Happening) -> str | None:
    """What a bell rings for: done, failed, stuck or worker_lost; None for everything else."""
    new = happening.data.get("new")
    match happening.kind:
        case "transition" if new in (JobState.DONE, JobState.FAILED):
            return str(new)
        case "worker" if new in (WorkerState.LOST, WorkerState.QUARANTINED):
            return "worker_lost"
        case "stuck":
            return "stuck"
        case _:
            return None


def _said_before(note: Note) -> tuple[Any, ...] | None:
    """What makes two notes say the same; None for one that always is news."""
    run = (note.job, note.generation)
    match note.kind:
        case "notice":
            return (*run, note.host == COORDINATOR, note.data.get("message"))
        case "failed":
            return (*run, "end", note.host, note.slot, note.attempt)
        case "rank_exited":
            data = note.data
            return (*run, "end", note.host, data.get("of_slot"), data.get("of_attempt"))
        case _:
            return None


def _sentence(note: Note) -> str:
    """One sentence, or "" for what is no news."""
    data, rank = note.data, f"rank {note.slot}"
    match note.kind:
        case "transition":
            return _transition(note)
        case "request":
            what = str(data.get("what") or "")
            asked = _REQUESTS.get(what, f"{what} it")
            return f"is asked to {what}" if note.host else f"somebody asked to {asked}"
        case "worker":
            return _worker(data)
        case "sight":
            reason = _text(data, "reason")
            return (
                f"is out of sight: {reason}; what runs there goes on" if reason else "is seen again"
            )
        case "stuck":
            return f"rank {data.get('of_slot', note.slot)} is stuck: {_text(data, 'reason')}"
        case "waiting":
            return f"rank {data.get('of_slot')} takes no steps: {_text(data, 'reason')}"
        case "unstuck":
            return f"rank {data.get('of_slot')} takes steps again"
        case "disk_full":
            return f"the run stops: {_text(data, 'reason')}"
        case "supervisor_started":
            return "its supervisor was started again"
        case "agent_started":
            return "its agent started"
        case "rank_started":
            again = (whole(data.get("of_attempt")) or 1) > 1
            return f"rank {data.get('of_slot')} is started{' again' if again else ''}"
        case "rank_exited":
            reason = _text(data, "reason")
            return "" if data.get("code") == 0 else f"rank {data.get('of_slot')} ended: {reason}"
        case "agent_finished":
            return _agent_finished(data)
        case "ready":
            return f"{rank} is ready: {_text(data, 'device')}, world size {data.get('world_size')}"
        case "evaluation":
            return _evaluation(data)
        case "checkpoint":
            samples = whole(data.get("samples_done"))
            return f"checkpoint-{data.get('step')} is saved" + (
                f", {samples:,} samples learnt" if samples is not None else ""
            )
        case "checkpoint_here":
            size = format_bytes(whole(data.get("size_bytes")))
            return f"checkpoint-{data.get('step')} is here too ({size})"
        case "awaiting_scores":
            is_news = (finite(data.get("seconds")) or 0) < 1  # it is told for as long as it waits
            step = data.get("step")
            return f"{rank} waits for the teacher's scores of step {step}" if is_news else ""
        case "scores_here":
            seconds = finite(data.get("seconds")) or 0.0
            return f"{rank} has the teacher's scores of step {data.get('step')} after {seconds:g} s"
        case "scores_corrupt":
            shard = f"shard {data.get('shard')} of the teacher's scores"
            return f"{rank}: {shard} is damaged and comes again: {_text(data, 'reason')}"
        case "finished" | "stopped" | "left":
            return f"{rank} {note.kind} after step {data.get('step')}"
        case "failed":
            return f"{rank} failed: {_text(data, 'error')}"
        case _:
            return _other(note)


def _transition(note: Note) -> str:
    data = note.data
    reason = _text(data, "reason")
    if data.get("old") is None:
        return "is submitted"
    try:
        state = JobState(str(data.get("new")))
    except ValueError:
        return f"is {data.get('new')}: {reason}".rstrip(": ")
    link = " " if state is JobState.PAUSED else ": "  # "at step 57"
    return _STATES[state] + (f"{link}{reason}" if reason else "")


def _worker(data: Mapping[str, Any]) -> str:
    reason = f": {_text(data, 'reason')}" if data.get("reason") else ""
    match data.get("new"):
        case WorkerState.LOST:
            return f"is lost{reason}"
        case WorkerState.QUARANTINED:
            return f"is quarantined{reason}"
        case _:
            return "is there again" if data.get("old") == WorkerState.LOST else ""


def _agent_finished(data: Mapping[str, Any]) -> str:
    left, reason = whole(data.get("leftover_processes")), _text(data, "reason")
    if data.get("outcome") == "failed":
        return f"its agent gave up{f': {reason}' if reason else ''}"
    return f"{left} processes of it are left" if left else "nothing of it runs there any more"


def _evaluation(data: Mapping[str, Any]) -> str:
    step, loss = whole(data.get("step")), finite(data.get("loss"))
    if step is None or loss is None:
        return ""
    perplexity, rows = finite(data.get("perplexity")), whole(data.get("rows"))
    return EvaluationView(step=step, loss=loss, perplexity=perplexity, rows=rows).sentence


def _other(note: Note) -> str:
    """A kind that this version does not know, or one that brings its own words: figures alone are
    for screens."""
    words = next(
        (text for key in ("message", "reason", "error") if (text := _text(note.data, key))), ""
    )
    if note.kind == "notice" or not words:
        return words
    rank = "" if note.slot is None else f"rank {note.slot}: "
    return f"{rank}{note.kind.replace('_', ' ')}: {words}"


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return clean(value, limit=_MOST) if isinstance(value, str) else ""
