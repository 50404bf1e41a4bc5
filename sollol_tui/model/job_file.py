"""Job files and `--set`: reads them into a JobSpec, or into every problem with line and column."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sollol_tui.model.document import Document, Path, check, read_document, unknown_key
from sollol_tui.model.errors import InputError
from sollol_tui.model.spec import ALIASES, JobSpec, job_keys


def parse_job_file(raw: bytes, file: str, overrides: Mapping[str, Any] | None = None) -> JobSpec:
    """The spec of a job file, with `overrides` (dotted keys) laid over it."""
    document = read_document(raw, file)
    if not isinstance(document.data, dict):
        raise InputError([document.problem((), "holds no mapping; write KEY: VALUE lines")])
    return _spec(document, overrides or {})


def spec_from_data(data: Mapping[str, Any], source: str = "job") -> JobSpec:
    """The spec of plain data: flags of a command, a dict from Python, a row of the state."""
    return _spec(Document(file=source, data={}, places={}), data)


def parse_setting(text: str) -> tuple[str, Any]:
    """`lora.r=16` as its key and its value, read as YAML would read it."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError.single("--set", f"'{text}' is not KEY=VALUE")
    if ALIASES.get(key, key) not in job_keys():
        raise InputError.single("--set", unknown_key(key, job_keys()))
    try:
        return key, YAML(typ="safe", pure=True).load(value)
    except YAMLError:
        return key, value


def _spec(document: Document, overrides: Mapping[str, Any]) -> JobSpec:
    data: dict[str, Any] = {}
    problems = []
    for source in (document.data, overrides):
        for key, value in source.items():
            name = ALIASES.get(key, key)
            if source is document.data and name != key and name in document.data:
                problems.append(document.problem((key,), f"'{key}' is another name of '{name}'"))
            _put(data, name.split("."), value)
    if problems:
        raise InputError(problems)
    elsewhere: dict[Path, str] = {}
    if document.data:
        elsewhere = {tuple(ALIASES.get(k, k).split(".")): "command line" for k in overrides}
    places = {path: place for path, place in document.places.items() if path not in elsewhere}
    return check(replace(document, places=places, elsewhere=elsewhere), JobSpec, data)


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
