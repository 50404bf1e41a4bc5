"""What a teacher is to a plan: where it computes, how the student hears of it, and what that takes.
Pure; knows no host and no tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Final

from sollol_tui.model.units import format_bytes, format_duration

BYTES_OF_CHOICE: Final = 4  # a token's id and its chance, in a vocabulary of 65,536 at most
BYTES_OF_WIDE_CHOICE: Final = 6
MOST_NARROW: Final = 65_536


class Path(StrEnum):
    """How a student hears of its teacher: the chances of its tokens, or answers that it writes."""

    SCORES = "scores"
    ANSWERS = "answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What was found out of a teacher before any host was asked. `model` is a folder or a Hub id,
    `parameters` and `vocabulary` are None where its files are not here; `why` tells what the path
    follows from, `roles` who teaches whom where that was not said."""

    model: str
    path: Path
    why: str
    roles: str = ""
    parameters: int | None = None
    vocabulary: int | None = None

    def cache_bytes(self, tokens: float, top_k: int) -> int:
        """What the scores of so many tokens take."""
        wide = self.vocabulary is not None and self.vocabulary > MOST_NARROW
        return int(tokens * top_k * (BYTES_OF_WIDE_CHOICE if wide else BYTES_OF_CHOICE))


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherHost:
    """A host that computes for the teacher, on one device of it. `tokens_per_s` is an estimate."""

    host: str
    address: str
    accelerator: str
    gpu: int | None
    cpu_cores: int | None = None
    ram_gb: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTeacher:
    """`tokens` is about how many of the dataset the teacher reads, once; `students_per_s` how many
    the students take a second; `need_bytes` the teacher's memory, None where that is unknown;
    `content` names what the teacher is, once that is known; `answers` is the file with what it
    wrote, once it has; `holders` are the hosts that score each part by now, where that is not one
    part for each, `left_out` says why others that were asked for are not among them."""

    lesson: Lesson
    hosts: tuple[TeacherHost, ...]
    top_k: int
    tokens: float
    need_bytes: int | None = None
    room_bytes: int = 0
    students_per_s: float | None = None
    content: str = ""
    answers: str = ""
    holders: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def scorers(self) -> tuple[str, ...]:
        """The host of each part of the work."""
        return self.holders or tuple(host.host for host in self.hosts)

    @property
    def seconds(self) -> float | None:
        """About how long all of it takes."""
        speeds = [host.tokens_per_s for host in self.hosts if host.tokens_per_s]
        return self.tokens / sum(speeds) if len(speeds) == len(self.hosts) and speeds else None

    def lines(self, name: str) -> list[str]:
        """What a person reads of it."""
        where = ", ".join(f"{host.host} ({_device(host)})" for host in self.hosts)
        lines = [f"{name} on {where}"]
        lines += [f"without {host}: {reason}" for host, reason in self.left_out.items()]
        if self.lesson.path is Path.SCORES:
            size = format_bytes(self.lesson.cache_bytes(self.tokens, self.top_k))
            lines.append(
                f"logits: the chances of its {self.top_k} likeliest tokens, scored once and kept "
                f"here, at most ~{size}; {self.lesson.why}"
            )
        else:
            lines.append(f"text: it writes answers, which the students learn; {self.lesson.why}")
        lines.append(self._pace())
        if self.need_bytes is not None:
            lines.append(
                f"memory ~{format_bytes(self.need_bytes)} of {format_bytes(self.room_bytes)}"
            )
        return [*lines, *filter(None, [self.lesson.roles])]

    def _pace(self) -> str:
        seconds = self.seconds
        if seconds is None:
            return "how long scoring takes is told when it has begun: nothing was measured there"
        took = f"~{format_duration(seconds)} for ~{self.tokens:,.0f} tokens, by its device"
        if self.lesson.path is Path.ANSWERS:
            return f"{took}, and longer to write; the students begin when all are written"
        speed = self.tokens / seconds / len(self.hosts)
        if self.students_per_s is None:
            return took
        wanted = max(1, ceil(self.students_per_s / speed))
        if wanted <= len(self.hosts):
            return f"{took}; it is faster than the students, who never wait long"
        return (
            f"{took}; {wanted} such hosts would keep the students busy in their first epoch "
            f"(--teacher-host HOST,HOST), with {len(self.hosts)} they wait for scores"
        )


def _device(host: TeacherHost) -> str:
    if host.gpu is not None:
        return f"GPU {host.gpu}"
    if host.cpu_cores is None:
        return "CPU"
    return f"CPU, {host.cpu_cores} core{'s' * (host.cpu_cores != 1)}"
