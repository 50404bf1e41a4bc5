"""Job files and `--set`: reads them into a JobSpec, or into every problem with line and column."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sollol_tui.model.document import Document, Path, check, read_document, unknown_key
from sollol_tui.model.errors import InputError, Problem
from sollol_tui.model.other_trainers import ALIASES, FOREIGN, RefusedError, in_our_words
from sollol_tui.model.spec import JobSpec, job_keys


def parse_job_file(raw: bytes, file: str, overrides: Mapping[str, Any] | None = None) -> JobSpec:
    """The spec of a job file, with `overrides` (dotted keys) laid over it."""
    document = read_document(raw, file)
    if not isinstance(document.data, dict):
        raise InputError([document.problem((), "holds no mapping; write KEY: VALUE lines")])
    return _spec(document, overrides or {})


def spec_from_data(data: Mapping[str, Any], source: str = "job") -> JobSpec:
    """The spec of plain data: flags of a command, a dict from Python, a row of the state."""
    return _spec(Document(file=source, data={}, places={}), data)


def spec_of_settings(settings: Mapping[str, Any], source: str = "job") -> JobSpec:
    """The spec of dotted keys and their values. The line of a problem is the number of the setting
    that it is about, 0 where it is about none."""
    places: dict[Path, tuple[int, int]] = {(): (0, 0)}
    places |= {(key,): (number, 1) for number, key in enumerate(settings, 1)}
    return _spec(Document(file=source, data=dict(settings), places=places), {})


def changed(spec: JobSpec, changes: Mapping[str, Any]) -> JobSpec:
    """The spec with `changes`, keys as a job file has them, laid over it."""
    return _spec(Document(file="job", data=spec.as_data(), places={}), changes)


def parse_setting(text: str) -> tuple[str, Any]:
    """`lora.r=16` as its key and its value, read as YAML would read it."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError.single("--set", f"'{text}' is not KEY=VALUE")
    if ALIASES.get(key, key) not in (*job_keys(), *FOREIGN):
        raise InputError.single("--set", unknown_key(key, job_keys()))
    try:
        return key, YAML(typ="safe", pure=True).load(value)
    except YAMLError:
        return key, value


def _spec(document: Document, overrides: Mapping[str, Any]) -> JobSpec:
    data: dict[str, Any] = {}
    said, problems = _in_our_words(document, document.data)
    laid_over, wrong = _in_our_words(replace(document, places={}), overrides)
    problems = [*problems, *wrong, *_said_twice(document, said)]
    for settings in (said, laid_over):
        for name, value in settings.values():
            _put(data, name.split("."), value)
    elsewhere: dict[Path, str] = {}
    if document.data:
        elsewhere = {_path(key): "command line" for key in overrides}
    places = {_canonical(path): place for path, place in document.places.items()}
    places = {path: place for path, place in places.items() if path not in elsewhere}
    document = replace(document, places=places, elsewhere=elsewhere)
    if problems:  # a key that is refused there is not told as missing too
        data = {"model": "?", "dataset": "?"} | data
    try:
        spec = check(document, JobSpec, data)
    except InputError as error:
        raise InputError([*problems, *error.problems]) from None
    if problems:
        raise InputError(problems)
    if contradiction := spec.contradiction():
        key, sentence = contradiction
        raise InputError([document.problem((key,), sentence)])
    return spec


def _path(key: str) -> tuple[str, ...]:
    """Where a key of a file or flag stands in a spec."""
    return tuple(ALIASES.get(key, key).split("."))


def _canonical(path: Path) -> Path:
    """The path of a file under the names of a spec."""
    return (*_path(path[0]), *path[1:]) if path and isinstance(path[0], str) else path


Settings = dict[str, tuple[str, Any]]  # by the key that was written: ours, and the value


def _in_our_words(document: Document, data: Mapping[str, Any]) -> tuple[Settings, list[Problem]]:
    """What a file or flags say under the names of a spec, and what of it cannot be followed."""
    settings, problems = {}, []
    for key, value in data.items():
        try:
            setting = in_our_words(key, value)
        except RefusedError as error:
            problems.append(document.problem((key,), str(error)))
        else:
            if setting is not None:
                settings[key] = setting
    return settings, problems


def _said_twice(document: Document, said: Settings) -> list[Problem]:
    """A key of the file that has another name there too, with another value: which one is meant,
    nobody knows."""
    names: dict[str, dict[str, Any]] = {}
    for key, (name, value) in said.items():
        inner = (
            {f"{name}.{each}": content for each, content in value.items()}
            if isinstance(value, Mapping)
            else {name: value}
        )
        for each, content in inner.items():
            names.setdefault(each, {})[key] = content
    return [
        document.problem((key,), f"'{key}' is another name of '{name}'")
        for name, keys in names.items()
        if any(value != first for first in [*keys.values()][:1] for value in keys.values())
        for key in keys
        if key != name and not name.startswith(f"{key}.")
    ]


def _put(data: dict[str, Any], path: list[str], value: Any) -> None:
    *folders, last = path
    for folder in folders:
        inner = data.setdefault(folder, {})
        if not isinstance(inner, dict):
            return
        data = inner
    if isinstance(value, Mapping) and isinstance(data.get(last), dict):
        for key, item in value.items():
            _put(data[last], [str(key)], item)
    else:
        data[last] = dict(value) if isinstance(value, Mapping) else value
