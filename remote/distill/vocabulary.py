"""Whether a teacher's scores mean anything to a student: their tokenizers compared by content.
Standard library only, so that a plan can be made where nothing else is installed; loads no model.

`python -P -m remote.distill.vocabulary TEACHER_FOLDER STUDENT_FOLDER` prints one JSON line.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SHOWN = 5
REFUSED = 3


class VocabularyError(ValueError):
    """A tokenizer cannot be read; the message says which and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One id that means something else to the teacher; None: nothing."""

    id: int
    teacher: str | None
    student: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`different` counts the student's tokens that the teacher has otherwise or not at all. Tokens
    that only the teacher has do no harm."""

    teacher_tokens: int
    student_tokens: int
    different: int
    examples: tuple[Difference, ...]
    same_template: bool

    @property
    def equal(self) -> bool:
        return self.different == 0

    @property
    def sentence(self) -> str:
        if self.equal:
            if self.same_template:
                return "teacher and student have the same tokens, so the student learns its scores"
            return (
                "teacher and student have the same tokens, so the student learns its scores; their "
                "chat templates differ, and the teacher reads the student's"
            )
        shown = ", ".join(
            f"{example.id} is {example.student!r} to the student and "
            + (f"{example.teacher!r} to the teacher" if example.teacher else "no token there")
            for example in self.examples
        )
        return (
            f"{self.different:,} of the student's {self.student_tokens:,} tokens are others in the "
            f"teacher's vocabulary of {self.teacher_tokens:,} ({shown}), so the teacher's scores "
            "say nothing to this student; it can learn the teacher's answers instead"
        )


def compare(teacher: Path, student: Path) -> Comparison:
    """Compares two folders of tokenizers. Raises VocabularyError."""
    theirs, own = tokens_of(teacher), tokens_of(student)
    differences = [number for number, token in sorted(own.items()) if theirs.get(number) != token]
    return Comparison(
        teacher_tokens=len(theirs),
        student_tokens=len(own),
        different=len(differences),
        examples=tuple(
            Difference(id=number, teacher=theirs.get(number), student=own[number])
            for number in differences[:SHOWN]
        ),
        same_template=_template(teacher) == _template(student),
    )


def tokens_of(folder: Path) -> dict[int, str]:
    """Every token of a tokenizer.json by its id, added ones included."""
    path = folder / "tokenizer.json"
    try:
        whole = json.loads(path.read_bytes())
        vocabulary = whole["model"]["vocab"]
        if isinstance(vocabulary, dict):
            found = {int(number): str(token) for token, number in vocabulary.items()}
        else:  # a unigram model's: tokens with what they weigh, in the order of their ids
            found = {number: str(entry[0]) for number, entry in enumerate(vocabulary)}
        added = {int(entry["id"]): str(entry["content"]) for entry in whole["added_tokens"] or ()}
    except OSError as error:
        raise VocabularyError(
            f"{path} cannot be read ({error.strerror}); both teacher and student need a fast "
            "tokenizer, whose folder holds tokenizer.json"
        ) from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise VocabularyError(
            f"{path} is not a tokenizer as the library `tokenizers` writes it; save it again with "
            "save_pretrained"
        ) from error
    return found | added


def _template(folder: Path) -> Any:
    """The chat template, wherever this folder keeps it; None where it has none that can be read."""
    try:
        return (folder / "chat_template.jinja").read_text()
    except (OSError, ValueError):
        pass
    try:
        return json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        found = compare(Path(arguments[0]), Path(arguments[1]))
    except VocabularyError as error:
        print(json.dumps({"v": 1, "kind": "refused", "reason": str(error)}))
        return REFUSED
    told = {"equal": found.equal, "sentence": found.sentence, **asdict(found)}
    print(json.dumps({"v": 1, "kind": "vocabulary", **told}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
