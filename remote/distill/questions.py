"""What a teacher is asked and what becomes of its answers: rows of a dataset without their last
answer, each question once; and the file of answers, which is a dataset. Knows no model.

`<workdir>/answers/<key>.jsonl`: one {"messages": [..]} a line, which one may read and edit;
`<key>.work/` is there while it is made, block by block.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remote.data.examples import Conversation, Examples
from remote.data.hub import fetch
from remote.data.render import DataError, Style, render_opening
from remote.data.rows import Problem
from remote.data.source import Source, SourceError, content_hash, find_source, named_hash
from remote.data.turns import Turn
from remote.files import write_atomic
from remote.run import Run
from remote.session import Say

FOLDER = "answers"
BLOCK = 32  # questions that are answered and written at once
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was said up to the answer; `opening` is that as the teacher reads it."""

    turns: tuple[Turn, ...]
    tools: tuple[Any, ...]
    opening: str

    def answered(self, answer: str) -> dict[str, Any]:
        """A row of the new dataset: only the teacher's answer is learnt."""
        messages = [_message(turn) for turn in self.turns]
        row: dict[str, Any] = {
            "messages": [*messages, {"role": "assistant", "content": answer}],
        }
        return row | ({"tools": list(self.tools)} if self.tools else {})


def questions_of(
    source: Source, declared: Any, style: Style, counts: Counter[str]
) -> Iterator[Question]:
    """Every question of a dataset once, in its order; `counts` hears of the others. Raises
    DataError."""
    seen: set[bytes] = set()
    for item in Examples(source, declared):
        if isinstance(item, Problem):
            raise DataError(f"{source.title}, {item}")
        if not isinstance(item, Conversation):
            raise DataError(
                f"{source.title} holds plain text, in which nobody asks, so a teacher has nothing "
                "to answer; take a dataset of questions, or a teacher with the student's tokens"
            )
        answers = [place for place, turn in enumerate(item.turns) if turn.trained]
        if not answers:
            counts["unanswered"] += 1
            continue
        turns = item.turns[: answers[-1]]
        opening = render_opening(turns, item.tools, style)
        digest = hashlib.sha256(opening.encode()).digest()
        if digest in seen:
            counts["duplicates"] += 1
            continue
        seen.add(digest)
        yield Question(turns=turns, tools=item.tools, opening=opening)


def source_of(run: Run, say: Say) -> Source:
    """The dataset's files. Raises DataError."""
    try:
        return fetch(run.dataset, say) or find_source(run.dataset)
    except SourceError as error:
        raise DataError(f"{run.dataset}: {error}") from error


class Answered:
    """The file of answers of one teacher to one dataset, and its blocks while it is made."""

    def __init__(self, workdir: Path, run: Run, source: Source) -> None:
        assert run.distill is not None
        parts = [
            _VERSION,
            run.distill.teacher_hash,
            run.distill.quantize,
            named_hash(source) or content_hash(source),
            source.names if len(source.names) > 1 else Path(source.names[0]).suffix,
            run.train.format,
            asdict(run.distill.answers),
        ]
        self.key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
        self.path = workdir / FOLDER / f"{self.key}.jsonl"
        self._work = self.path.with_suffix(".work")
        self._work.mkdir(parents=True, exist_ok=True, mode=0o700)

    def lacking(self, blocks: int) -> list[int]:
        """Which blocks nobody has written yet: none where the file is there."""
        if self.path.exists():
            return []
        return [block for block in range(blocks) if not self._block(block).exists()]

    def add(self, block: int, rows: Sequence[dict[str, Any]], counts: Counter[str]) -> None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        head = json.dumps(counts) + "\n"
        write_atomic(self._block(block), (head + lines).encode())

    def finish(self, blocks: int) -> Counter[str]:
        """Lays the blocks end to end; returns what became of all questions. Where none has an
        answer there is no file, and the next start asks again."""
        total: Counter[str] = Counter()
        lines = []
        for block in range(blocks):
            head, _, rest = self._block(block).read_bytes().partition(b"\n")
            total.update(json.loads(head))
            lines.append(rest)
        if total["rows"]:
            write_atomic(self.path, b"".join(lines))
        shutil.rmtree(self._work, ignore_errors=True)
        return total

    def _block(self, block: int) -> Path:
        return self._work / f"{block:06d}.jsonl"


def _message(turn: Turn) -> dict[str, Any]:
    said: dict[str, Any] = {"role": turn.role, "content": turn.content, **turn.extras}
    if turn.thinking:
        said["reasoning_content"] = turn.thinking
    return said | ({"weight": 0} if turn.role == "assistant" else {})
