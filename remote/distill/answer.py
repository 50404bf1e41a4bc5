"""Has a teacher answer a dataset's questions, for students with other tokens: the answers become a
dataset of their own. A killed start redoes at most one block; trains nobody.

Run by an agent: `python -m remote.distill.answer RUN_DIR SLOT ATTEMPT`.
"""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from remote.base import load_tokenizer
from remote.batches import Layout
from remote.control import Action, read_control
from remote.data.render import DataError, Style
from remote.distill.questions import BLOCK, Answered, Question, questions_of, source_of
from remote.distill.teacher import AT_ONCE, TeacherError, load_teacher
from remote.engine import DismissedError
from remote.errand import main
from remote.events import EventWriter
from remote.fit import check_places, in_memory
from remote.model import Model
from remote.presence import Presence
from remote.run import Answers, Run
from remote.session import Say, speaker
from remote.start import device_of, quieten, workdir_of

PLACE_KEYS = "teacher.max_prompt_tokens or teacher.max_new_tokens"
EMPTY, CUT = "empty", "cut"  # answers that teach nothing: nothing said, or said without an end


def answer(run: Run, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns once the file of answers is whole."""
    distill, say, began = run.distill, speaker(events), time.monotonic()
    assert distill is not None
    assert distill.teacher is not None
    [own] = run.own_ranks
    device = device_of(own)
    quieten()
    with Presence(None, events, f"the questions of {Path(run.dataset).name}") as presence:
        tokenizer = load_tokenizer(distill.teacher)
        source = source_of(run, say)
        answered = Answered(workdir_of(run_dir), run, source)
        left_out: Counter[str] = Counter(duplicates=0, too_long=0)
        found = questions_of(source, run.train.format, Style.of(tokenizer), left_out)
        lengths: list[int] = []
        blocks = in_blocks(_short(found, tokenizer, distill.answers, left_out, lengths))
        lacking = answered.lacking(len(blocks))
        if lacking:
            presence.doing = f"the teacher {distill.teacher_name}"
            teacher = load_teacher(run, tokenizer, device)
            longest = max(lengths, default=0) + distill.answers.max_new_tokens
            what = f"the longest question may have {longest:,} tokens with its answer"
            check_places(teacher, what, longest, PLACE_KEYS, say)
    asked = sum(map(len, blocks))
    if not asked:
        raise DataError(
            f"{source.title}: it holds no question within {distill.answers.max_prompt_tokens} "
            "tokens; raise max_prompt_tokens"
        )
    present = asked - sum(len(blocks[block]) for block in lacking)
    events.emit("answering", path=str(answered.path), prompts=asked, present=present)
    if lacking:
        pace = _Pace(events, run_dir, asked, done=present)
        writer = Writer(teacher, distill.answers, run.host, say, pace.obey)
        for block in lacking:
            answered.add(block, *writer.write(block, blocks[block]))
            pace.took(len(blocks[block]), writer.tokens)
    if not answered.path.exists():
        counts = answered.finish(len(blocks))
        if not counts["rows"]:
            raise TeacherError(
                f"none of the {asked:,} answers of {distill.teacher_name} came to an end within "
                f"{distill.answers.max_new_tokens} tokens; raise max_new_tokens, or take a teacher "
                "that was trained to answer"
            )
        left_out.update({fate: counts[fate] for fate in (EMPTY, CUT)})
    outcome = {"key": answered.key, "path": str(answered.path), **_described(answered.path)}
    told = ", ".join(f"{count:,} {fate.replace('_', ' ')}" for fate, count in left_out.items())
    say(f"{outcome['rows']:,} answers in {answered.path}; left out: {told}")
    seconds = round(time.monotonic() - began, 2)
    return {**outcome, "prompts": asked, **left_out, "seconds": seconds}


def in_blocks(questions: Iterator[Question]) -> list[list[Question]]:
    """Questions that are asked and kept together."""
    blocks: list[list[Question]] = []
    for number, question in enumerate(questions):
        if number % BLOCK == 0:
            blocks.append([])
        blocks[-1].append(question)
    return blocks


def _short(
    questions: Iterator[Question],
    tokenizer: Any,
    settings: Answers,
    counts: Counter[str],
    lengths: list[int],
) -> Iterator[Question]:
    """Those that are not too long, whose `lengths` in tokens are noted."""
    for question in questions:
        ids = tokenizer(question.opening, add_special_tokens=False).input_ids
        if len(ids) > settings.max_prompt_tokens:
            counts["too_long"] += 1
        else:
            lengths.append(len(ids))
            yield question


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        rows = sum(1 for _ in file)
        size = file.tell()
        file.seek(0)
        return {
            "size": size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "rows": rows,
        }


class Writer:
    """Asks the teacher, several questions at once; fewer where memory runs out."""

    def __init__(
        self, teacher: Model, settings: Answers, host: str, say: Say, obey: Callable[[], None]
    ) -> None:
        self.tokens = 0  # that the teacher has written
        self._teacher = teacher
        self._settings = settings
        self._host = host
        self._say = say
        self._obey = obey
        self._layout = Layout(size=AT_ONCE[teacher.device.type])
        network, own = teacher.network, teacher.tokenizer.eos_token_id
        ends = network.generation_config.eos_token_id or own or []
        self._ends = {ends} if isinstance(ends, int) else set(ends)
        self._tokenizer = teacher.tokenizer
        self._tokenizer.padding_side = "left"
        self._tokenizer.pad_token_id = teacher.pad_id

    def write(
        self, block: int, questions: Sequence[Question]
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The rows of a block, and what became of its questions. Its chance is its own, so that a
        block says the same whenever it is made."""

        def ask() -> list[tuple[str, bool]]:
            torch.manual_seed(self._settings.seed + block)
            openings, size = [question.opening for question in questions], self._layout.size
            return [
                said
                for begin in range(0, len(openings), size)
                for said in self._ask(openings[begin : begin + size])
            ]

        told = in_memory(self._layout, ask, self._say, undo=lambda: None)
        if told is None:
            raise TeacherError(
                f"{self._host} has no memory left to answer a single question of up to "
                f"{self._settings.max_prompt_tokens} tokens; set quantize: nf4 for the teacher, "
                "lower max_prompt_tokens, or name another host"
            )
        rows: list[dict[str, Any]] = []
        counts: Counter[str] = Counter()
        for question, (text, has_end) in zip(questions, told, strict=True):
            if text and has_end:
                rows.append(question.answered(text))
            else:
                counts[EMPTY if has_end else CUT] += 1
        counts["rows"] = len(rows)
        return rows, counts

    @torch.inference_mode()
    def _ask(self, openings: list[str]) -> list[tuple[str, bool]]:
        """What the teacher says to each, and whether it came to an end by itself."""
        settings, teacher = self._settings, self._teacher
        encoded = self._tokenizer(
            openings, add_special_tokens=False, padding=True, return_tensors="pt"
        ).to(teacher.device)
        chance: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None}
        if settings.temperature:
            chance = {
                "do_sample": True,
                "temperature": settings.temperature,
                "top_p": settings.top_p,
            }

        def interrupt(*_: Any, **__: Any) -> Any:
            self._obey()
            return torch.zeros(len(openings), dtype=torch.bool, device=teacher.device)

        with teacher.computing():
            output = teacher.network.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=settings.max_new_tokens,
                pad_token_id=teacher.pad_id,
                top_k=0 if settings.temperature else None,
                stopping_criteria=[interrupt],
                **chance,
            )
        said = []
        for line in output[:, encoded["input_ids"].shape[1] :].tolist():
            end = next((place for place, token in enumerate(line) if token in self._ends), None)
            self.tokens += len(line) if end is None else end + 1
            text = self._tokenizer.decode(line[:end], skip_special_tokens=True).strip()
            said.append((text, end is not None))
        return said


class _Pace:
    def __init__(self, events: EventWriter, run_dir: Path, total: int, *, done: int) -> None:
        self._events = events
        self._run_dir = run_dir
        self._total = total
        self._done = done
        self._asked = 0
        self._began = time.monotonic()

    def obey(self) -> None:
        if (wanted := read_control(self._run_dir)) is not Action.RUN:
            raise DismissedError(wanted)

    def took(self, prompts: int, tokens: int) -> None:
        self._asked += prompts
        done, spent = self._done + self._asked, max(time.monotonic() - self._began, 1e-6)
        self._events.emit(
            "progress",
            prompts_done=done,
            prompts_total=self._total,
            tokens_per_s=round(tokens / spent, 1),
            eta_s=round((self._total - done) * spent / self._asked, 1),
        )


if __name__ == "__main__":
    sys.exit(main(answer, followed=False))
