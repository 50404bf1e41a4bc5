"""An example as the text that the model sees, with the characters that are learnt. Knows chat
templates; knows nothing of tokens.

The rule of what is learnt: where a template marks its answers ({% generation %}), what it marks;
elsewhere all that follows the point at which the model would be asked for the answer, up to where
the next turn begins. Both are what TRL learns.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from remote.data.examples import Conversation, Example
from remote.data.plain import Rendered, opening_plain, render_plain
from remote.data.turns import THINKING, Turn

MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
READS_TOOLS = re.compile(r"\btools\b")
STAND_IN = "(the answer, 7c1e90)"  # which nobody writes
# Some templates tell the date. What is learnt must not depend on the day, nor on a worker's clock.
TODAY = datetime(2024, 7, 26, tzinfo=UTC)
ONE_DAY = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f"|replace('%{code}', '{TODAY:%{code}}')" for code in "AaBbdmYyHIMSpj")
    + " }}{%- endmacro %}"
)


class DataError(ValueError):
    """The dataset cannot be trained on; the message says which row and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a tokenizer wants conversations written. Without a template: plain headings."""

    template: str | None
    begin: str  # the tokenizer's own first token, where it puts one
    end: str
    special_tokens: dict[str, str]

    @classmethod
    def of(cls, tokenizer: Any) -> "Style":
        first = tokenizer("").input_ids[:1]
        has_begin = bool(first) and first[0] == tokenizer.bos_token_id
        return cls(
            template=tokenizer.get_chat_template() if tokenizer.chat_template else None,
            begin=tokenizer.bos_token if has_begin else "",
            end=tokenizer.eos_token or "",
            special_tokens={
                name: str(token) for name, token in tokenizer.special_tokens_map.items()
            },
        )

    @property
    def name(self) -> str:
        return "tokenizer" if self.template else "plain"

    def reads(self, key: str) -> bool:
        """Whether the template asks a message for this key."""
        return bool(re.search(rf"\.{key}\b|(['\"]){key}\1", self.template or ""))

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def render_prompt(prompt: str, tokenizer: Any) -> str:
    """A question as the model sees it, up to where its answer begins."""
    turns = (Turn(role="user", content=prompt, trained=False),)
    return render_opening(turns, (), Style.of(tokenizer))


def render_opening(turns: Sequence[Turn], tools: Sequence[Any], style: Style) -> str:
    """What has been said, up to where the answer to it begins. Raises DataError."""
    if style.template is None:
        return opening_plain(turns, begin=style.begin, end=style.end)
    return _Templated(style=style, tools=tools).opening(turns)


def render(example: Example, style: Style) -> Rendered:
    """An example as text, by the chat template where there is one. Raises DataError."""
    if not isinstance(example, Conversation):
        text = style.begin + example.content + style.end
        return Rendered(text=text, spans=[(0, len(text))] if example.has_answer else [])
    if style.template is None:
        return render_plain(example.turns, example.tools, begin=style.begin, end=style.end)
    try:
        rendered = _Templated(style=style, tools=example.tools).whole(example.turns)
    except DataError as error:
        raise DataError(f"row {example.row}: {error}") from error
    thoughts = [turn.thinking.strip() for turn in example.turns if turn.thinking]
    return replace(
        rendered,
        hides_thinking=any(thought not in rendered.text for thought in thoughts),
        hides_tools=bool(example.tools) and not READS_TOOLS.search(style.template),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Templated:
    """A conversation under a chat template."""

    style: Style
    tools: Sequence[Any]

    def whole(self, turns: Sequence[Turn]) -> Rendered:
        text, marked = self._render(turns, ask=False)
        are_trained = [turn.trained for turn in turns if turn.role == "assistant"]
        if marked and all(are_trained):
            return Rendered(text=text, spans=marked)
        if len(marked) == len(are_trained):
            chosen = zip(marked, are_trained, strict=True)
            return Rendered(text=text, spans=[span for span, is_trained in chosen if is_trained])
        spans = [self._span(text, turns, place) for place, turn in enumerate(turns) if turn.trained]
        return Rendered(text=text, spans=spans)

    def opening(self, turns: Sequence[Turn]) -> str:
        """What stands before an answer that follows `turns`."""
        if turns:
            return self._render(turns, ask=True)[0]
        return self._around(turns)[0]

    def _span(self, text: str, turns: Sequence[Turn], place: int) -> tuple[int, int]:
        """Where the answer at `place` stands. A template may show a turn otherwise once others
        follow it (thinking is dropped): then a stand-in tells its place."""
        start = self._start(text, turns, place)
        until = text if place == len(turns) - 1 else self._render(turns[: place + 1], ask=False)[0]
        if start is not None and text.startswith(until):
            end = len(until)
        else:
            begin, end = self._stood_in(text, turns, place)
            start = begin if start is None else start
        self._check_shown(turns[place], place, text[start:end])
        return start, end

    def _start(self, text: str, turns: Sequence[Turn], place: int) -> int | None:
        """Where the answer at `place` begins: behind what asks for it, if what was said before it
        reads as it does without what follows."""
        opening = self.opening(turns[:place])
        start = _shared_length(opening, text)
        if start < len(opening) and place:
            asked = self._render(turns[:place], ask=False)[0]
            if start < _shared_length(asked, opening):
                return None
        return start

    def _stood_in(self, text: str, turns: Sequence[Turn], place: int) -> tuple[int, int]:
        """Where the answer at `place` stands, by another text in its place: all around that is
        equal."""
        answer = Turn(role="assistant", content=STAND_IN, trained=True)
        other = self._render((*turns[:place], answer, *turns[place + 1 :]), ask=False)[0]
        before, found, after = other.partition(STAND_IN)
        end = len(text) - len(after)
        if not found or end <= len(before) or text[: len(before)] != before or text[end:] != after:
            raise self._cannot_tell(place)
        return len(before), end + _shared_length(self._around(turns[:place])[1], after)

    def _check_shown(self, turn: Turn, place: int, shown: str) -> None:
        for call in turn.extras.get("tool_calls", ()):
            if call["function"]["name"] not in shown:
                raise DataError(
                    f"the tokenizer's chat template does not show the tool calls of turn "
                    f"{place + 1}, so they cannot be learnt; remove chat_template from the model "
                    "folder's tokenizer to use the plain template, or take a model that knows tools"
                )

    def _cannot_tell(self, place: int) -> DataError:
        return DataError(
            f"the tokenizer's chat template does not show turn {place + 1} as it was said, so its "
            "tokens cannot be told; mark the answers in it with {% generation %}, or remove "
            "chat_template from the model folder's tokenizer to use the plain template"
        )

    def _around(self, turns: Sequence[Turn]) -> tuple[str, str]:
        """What stands before and behind an answer that follows `turns`. What stands behind, the
        token that ends an answer above all, is learnt with it."""
        answer = Turn(role="assistant", content=STAND_IN, trained=True)
        before, _, after = self._render((*turns, answer), ask=False)[0].partition(STAND_IN)
        return before, after

    def _render(self, turns: Sequence[Turn], *, ask: bool) -> tuple[str, list[tuple[int, int]]]:
        """The text, and the spans that the template marks as answers. `ask` ends it with what
        opens an answer."""
        messages = [self._message(turn) for turn in turns]
        template = self.style.template or ""
        try:
            [text], marked = render_jinja_template(
                conversations=[messages],
                tools=list(self.tools) or None,
                chat_template=ONE_DAY + template if "strftime_now" in template else template,
                return_assistant_tokens_mask=bool(MARKS_ANSWERS.search(template)),
                add_generation_prompt=ask,
                **self.style.special_tokens,
            )
        except Exception as error:  # a template raises what it likes: jinja2's errors, TypeError
            said = f"{type(error).__name__}: {error}"
            roles = ", ".join(turn.role for turn in turns)
            raise DataError(
                f"the tokenizer's chat template refuses the turns {roles} ({said}); "
                "leave such turns out of the rows, or remove chat_template from the model folder's "
                "tokenizer to use the plain template"
            ) from error
        return text, [tuple(span) for span in marked[0]] if marked else []

    def _message(self, turn: Turn) -> dict[str, Any]:
        """A turn as templates want it. Thinking goes by the names that this one reads, whichever
        name the row has for it."""
        message = {"role": turn.role, "content": turn.content, **turn.extras}
        if turn.thinking:
            message |= {name: turn.thinking for name in THINKING if self.style.reads(name)}
        if turn.call_text and not self.style.reads("tool_calls"):
            message["content"] = turn.call_text
            del message["tool_calls"]
        return message


def _shared_length(one: str, other: str) -> int:
    """How many characters both begin with."""
    if other.startswith(one):
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
