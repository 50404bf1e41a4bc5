"""What the cells of a row say: texts, messages, calls of tools. Standard library only.

A cell that cannot be used is a `WrongError` with its place and the reason; nothing is repaired but
what all tools write differently (roles, arguments as text).
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remote.data.rows import kind_of

CANNOT_BE_TEXT = re.compile("[\ud800-\udfff]")
MAX_DEPTH = 64  # of what a template is given as it is
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
PASSED_ON = ("name", "tool_call_id")  # what templates read beside the content
THINKING = ("reasoning_content", "reasoning", "thinking")  # the names that thinking goes by
READ = {"role", "from", "content", "value", "weight", "tool_calls", *PASSED_ON}
CALLING = "function_call"  # LLaMA-Factory's role of an answer that is a call, written as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message. `trained` says that the loss counts its tokens, never those of an empty answer:
    it would teach the model to say nothing; `extras` are the further keys
    that a chat template may read, `tool_calls` above all; `call_text` is a call as the row writes
    it, for templates that know none; `unread` are keys that mean nothing here."""

    role: str
    content: str
    trained: bool
    thinking: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict)
    call_text: str = ""
    unread: tuple[str, ...] = ()


class WrongError(Exception):
    """One column of the row at hand cannot be used."""

    def __init__(self, column: str | None, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def read_text(value: Any, column: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise WrongError(column, f"is {kind_of(value)}, not text")
    if found := CANNOT_BE_TEXT.search(value):
        # A reader keeps bytes that are not UTF-8 as U+DC80..U+DCFF.
        if "\udc80" <= found[0] <= "\udcff":
            raise WrongError(
                column, f"holds bytes that are not UTF-8 (character {found.start() + 1})"
            )
        raise WrongError(column, f"holds half of a surrogate pair (character {found.start() + 1})")
    if not may_be_empty and not value.strip():
        raise WrongError(column, "is empty")
    return value


def read_turns(messages: Any, column: str) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise WrongError(column, f"is {kind_of(messages)}, not a list")
    if not messages:
        raise WrongError(column, "is an empty list")
    return tuple(_turn(message, f"{column}[{place}]") for place, message in enumerate(messages))


def _turn(message: Any, where: str) -> Turn:
    """A message as OpenAI writes it (role, content) or as ShareGPT does (from, value)."""
    if not isinstance(message, dict):
        raise WrongError(where, f"is {kind_of(message)}, not an object")
    is_sharegpt = "from" in message and "role" not in message
    role_key, content_key = ("from", "value") if is_sharegpt else ("role", "content")
    if role_key not in message:
        raise WrongError(f"{where}.{role_key}", "is missing")
    said = message[role_key]
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        shown = ascii(said) if isinstance(said, str) and len(said) <= 40 else kind_of(said)
        raise WrongError(f"{where}.{role_key}", f"is {shown}; known are {', '.join(ROLES)}")
    extras: dict[str, Any] = {
        key: read_text(message[key], f"{where}.{key}", may_be_empty=True)
        for key in PASSED_ON
        if message.get(key) is not None
    }
    calls = message.get("tool_calls")
    if calls is not None and calls != []:
        extras["tool_calls"] = _calls(calls, f"{where}.tool_calls", role)
    if content_key not in message and not calls:
        raise WrongError(f"{where}.{content_key}", "is missing")
    content = message.get(content_key)
    content = read_text(
        "" if content is None and calls else _joined(content, f"{where}.{content_key}"),
        f"{where}.{content_key}",
        may_be_empty=True,
    )
    call_text = ""
    if said.lower() == CALLING and not calls and (calls := _written_calls(content, where)):
        extras["tool_calls"], call_text, content = calls, content, ""
    is_answer = role == "assistant" and bool(content.strip() or calls)
    thinking = _thinking(message, where) if role == "assistant" else ""
    known = READ.union(THINKING) if role == "assistant" else READ
    return Turn(
        role=role,
        content=content,
        trained=is_answer and _weight(message, where) != 0,
        thinking=thinking,
        extras=extras,
        call_text=call_text,
        unread=tuple(key for key, value in message.items() if key not in known and value),
    )


def _weight(message: Mapping[str, Any], where: str) -> int:
    """OpenAI's way to say which answers are learnt."""
    weight = message.get("weight")
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise WrongError(f"{where}.weight", "is neither 0 nor 1; an answer is learnt or it is not")
    return int(weight)


def _thinking(message: Mapping[str, Any], where: str) -> str:
    thoughts = (
        read_text(message[key], f"{where}.{key}", may_be_empty=True)
        for key in THINKING
        if message.get(key) is not None
    )
    return next((thought for thought in thoughts if thought.strip()), "")


def _written_calls(text: str, where: str) -> list[Any]:
    """The calls that a text holds as JSON, one or a list of them; none where it is other text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    calls = found if isinstance(found, list) else [found]
    are_calls = all(isinstance(call, dict) and "name" in call for call in calls)
    return _calls(calls, where, "assistant") if are_calls else []


def _calls(calls: Any, where: str, role: str) -> list[Any]:
    """Calls of tools. Templates want the arguments as an object; OpenAI writes them as text."""
    if role != "assistant":
        raise WrongError(where, f"stands in a turn of {role}; only an assistant calls tools")
    if not isinstance(calls, list):
        raise WrongError(where, f"is {kind_of(calls)}, not a list")
    found = []
    for place, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise WrongError(f"{where}[{place}]", "names no function")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = _json(arguments, f"{where}[{place}].function.arguments")
        if not isinstance(arguments, dict):
            raise WrongError(
                f"{where}[{place}].function.arguments", f"is {kind_of(arguments)}, not an object"
            )
        _check_depth(call, f"{where}[{place}]")
        _check_depth(arguments, f"{where}[{place}]")
        inner = {"name": function["name"], "arguments": arguments}
        outer = {key: value for key, value in call.items() if key == "id" and value is not None}
        found.append({**outer, "type": "function", "function": inner})
    return found


def read_tools(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row says that the assistant may call: a list of JSON schemas, or the same as text."""
    tools = row.get("tools")
    if isinstance(tools, str):
        tools = _json(tools, "tools") if tools.strip() else None
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise WrongError("tools", f"is {kind_of(tools)}, not a list")
    for place, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise WrongError(f"tools[{place}]", f"is {kind_of(tool)}, not an object")
        _check_depth(tool, f"tools[{place}]")
    return tuple(tools)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongError(where, f"is text that is not JSON: {error}") from None


def _check_depth(value: Any, where: str, depth: int = 0) -> None:
    """What a template is given as it is must be JSON that can be written down."""
    if depth > MAX_DEPTH:
        raise WrongError(where, f"is nested deeper than {MAX_DEPTH} levels")
    match value:
        case str():
            read_text(value, where, may_be_empty=True)
        case dict():
            for key, entry in value.items():
                _check_depth(key, where, depth + 1)
                _check_depth(entry, f"{where}.{key}" if depth < 4 else where, depth + 1)
        case list():
            for entry in value:
                _check_depth(entry, where, depth + 1)
        case None | bool() | int() | float():
            if isinstance(value, float) and not math.isfinite(value):
                raise WrongError(where, f"holds {kind_of(value)}")
        case _:
            raise WrongError(where, f"holds {kind_of(value)}")


def _joined(content: Any, where: str) -> Any:
    """Text given as a list of parts, as one text; anything else as it is."""
    if not isinstance(content, list):
        return content
    texts = []
    for place, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else None
            named = f"a part of type {ascii(kind)[:40]}" if kind else kind_of(part)
            raise WrongError(
                f"{where}[{place}]", f"is {named}; only parts with a text can be learnt"
            )
        texts.append(part["text"])
    return "".join(texts)
