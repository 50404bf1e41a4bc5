"""What is asked of an export, and what became of it. Makes nothing."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from sollol_tui.model.snapshot import Keyed

SCHEMA: Final = "sollol.export/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportWish:
    """`checkpoint` is a step or "newest", None for the result; `base` is what Ollama builds on
    where that is not the base model's folder."""

    job: str
    checkpoint: int | str | None = None
    to: str | None = None
    merge: bool = False
    host: str | None = None
    ollama: str | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported(Keyed):
    """`path` is the folder; `model` is the name under which Ollama has it, None where it has not;
    then `command` is what gives it to Ollama, "" where that was not wished for."""

    path: str
    model: str | None = None
    command: str = ""

    def as_data(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}
