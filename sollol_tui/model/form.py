"""The form of a job: a field for each key of a job file, made from the spec itself.

What is typed are the settings of a job file; what was left empty is not said. Pure; shows nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sollol_tui.model.errors import InputError, Problem
from sollol_tui.model.job_file import parse_job_file, spec_of_settings
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.yaml_edit import in_flow_style

MAIN: Final = (  # what most people change, in the order in which they think of it
    "model",
    "dataset",
    "workers",
    "name",
    "mode",
    "epochs",
    "max_length",
    "global_batch",
    "learning_rate",
    "lora.r",
    "lora.alpha",
)
_Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """`default` is what an empty one means, as it would be typed. With `choices` nothing else can
    be meant. What `is_text` is taken as it is typed, anything else is read as YAML."""

    key: str
    about: str
    default: str
    choices: tuple[str, ...]
    is_text: bool
    is_required: bool


@cache
def job_fields() -> tuple[Field, ...]:
    """Every field, in the order of the spec."""
    schema = TypeAdapter(JobSpec).json_schema()
    return tuple(_fields(schema, schema.get("$defs", {}), ""))


def _fields(schema: _Schema, definitions: _Schema, prefix: str) -> Iterator[Field]:
    for name, given in schema["properties"].items():
        kinds = list(_kinds(given, definitions))
        key = f"{prefix}{name}"
        inner = next((kind for kind in kinds if "properties" in kind), None)
        if inner is not None:
            yield from _fields(inner, definitions, f"{key}.")
            continue
        kinds_of_text = [kind for kind in kinds if kind.get("type") == "string"]
        yield Field(
            key=key,
            about=" ".join(str(given.get("description", "")).split()),
            default=_typed(given.get("default")),
            choices=_choices(kinds),
            is_text=any("enum" not in kind and "const" not in kind for kind in kinds_of_text),
            is_required=not prefix and name in schema.get("required", ()),
        )


def _kinds(schema: _Schema, definitions: _Schema) -> Iterator[_Schema]:
    """The alternatives of a value, what they refer to in their place."""
    if reference := schema.get("$ref"):
        yield from _kinds(definitions[reference.rpartition("/")[2]], definitions)
    elif "anyOf" in schema:
        for alternative in schema["anyOf"]:
            yield from _kinds(alternative, definitions)
    else:
        yield schema


def _choices(kinds: list[_Schema]) -> tuple[str, ...]:
    """All that can be said, where that is a few words: "" where nothing can be said as well."""
    choices: list[str] = []
    for kind in kinds:
        match kind:
            case {"enum": words}:
                choices += map(_typed, words)
            case {"const": word}:
                choices.insert(0, _typed(word))
            case {"type": "boolean"}:
                choices += ["true", "false"]
            case {"type": "null"}:
                choices.insert(0, "")
            case _:
                return ()
    return tuple(choices)


def form_of_spec(spec: JobSpec) -> dict[str, str]:
    """What would have to be typed for this spec."""
    defaults = dict(_settings(JobSpec(model="", dataset="").as_data()))
    said = dict(_settings(spec.as_data()))
    return {key: _typed(value) for key, value in said.items() if value != defaults.get(key)}


def form_of_file(raw: bytes, file: str) -> dict[str, str]:
    """What would have to be typed for a job file, also one in the words of another trainer. Raises
    InputError."""
    return form_of_spec(parse_job_file(raw, file))


def file_of_form(typed: Mapping[str, str]) -> str:
    """The job file that says what was typed."""
    return "".join(f"{key}: {in_flow_style(value)}\n" for key, value in _said(typed).items())


def spec_of_form(typed: Mapping[str, str]) -> JobSpec:
    """The spec of what was typed. Raises InputError: the `file` of each problem is the key of the
    field that it is about."""
    said = _said(typed)
    problems = [
        Problem(file=field.key, message=f"is needed: {field.about}")
        for field in job_fields()
        if field.is_required and field.key not in said
    ]
    whole = said | {problem.file: "?" for problem in problems}  # so that the others are told too
    keys = list(whole)
    try:
        spec = spec_of_settings(whole)
    except InputError as error:
        problems += [_about_field(keys, problem) for problem in error.problems]
    if problems:
        raise InputError(problems)
    return spec


def _about_field(keys: Sequence[str], problem: Problem) -> Problem:
    """A problem of the setting with the number of its line, without the name that stands there."""
    key = keys[problem.line - 1] if problem.line else ""
    message = problem.message.removeprefix(f"{key.rpartition('.')[2]}: ")
    return Problem(file=key, message=message)


def value_of(key: str, typed: str) -> Any:
    """What was typed into one field, as a job file would have it."""
    field = next(field for field in job_fields() if field.key == key)
    return _value(field, typed.strip() or field.default)


def _said(typed: Mapping[str, str]) -> dict[str, Any]:
    return {
        field.key: _value(field, text)
        for field in job_fields()
        if (text := typed.get(field.key, "").strip())
    }


def _value(field: Field, text: str) -> Any:
    # A mapping of columns or a list of modules beside a plain word.
    if field.is_text and not (text[:1] in ("{", "[") and text[-1:] in ("}", "]")):
        return text
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return text  # which is then said not to be what is wanted


def _settings(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of plain data by the keys of the fields."""
    keys = {field.key for field in job_fields()}
    for name, value in data.items():
        key = f"{prefix}{name}"
        if key in keys:
            yield key, value
        elif isinstance(value, Mapping):
            yield from _settings(value, f"{key}.")


def _typed(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    text = in_flow_style(value)
    return text if "\n" not in text else json.dumps(value, ensure_ascii=False)  # one line
