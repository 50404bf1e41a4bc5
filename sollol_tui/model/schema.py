"""JSON schemas (draft 2020-12) of inventory.yaml and of job files, for editors.

Made from the dataclasses that check these files; what a schema cannot say (which host a pattern
fits, which environment variable is a secret) is checked when the file is read.
"""

from dataclasses import fields
from typing import Any, Final

from pydantic import TypeAdapter

from sollol_tui.model.inventory_settings import (
    SETTING_ALIASES,
    HostSettings,
    NetworkSettings,
    PackageSettings,
)
from sollol_tui.model.names import NAME
from sollol_tui.model.other_trainers import ALIASES, FOREIGN, VALUES
from sollol_tui.model.spec import PARTS, JobSpec

Schema = dict[str, Any]
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_RANGE: Final = r"\[[0-9]+:[0-9]+\]"


def inventory_schema() -> Schema:
    """The schema of inventory.yaml."""
    definitions: Schema = {}
    host = _properties(HostSettings, definitions)
    for alias, key in SETTING_ALIASES.items():
        host["properties"][alias] = _another_name(host["properties"][key], key)
    definitions["Host"] = host
    name = {"pattern": f"^({_ranged()})$"}
    network = _properties(NetworkSettings, definitions)
    network["properties"]["ports"]["default"] = "{}-{}".format(*NetworkSettings().ports)
    settings = {"anyOf": [{"$ref": "#/$defs/Host"}, {"type": "null"}]}
    group = {
        **host,
        "description": "The hosts that match, and what they have in common.",
        "properties": {
            "match": {
                "type": ["string", "array"],
                "items": {"type": "string"},
                "description": "A pattern (all, tag:WORD, HOST,HOST, !HOST) or a list of them.",
            },
            **host["properties"],
        },
        "required": ["match"],
    }
    return {
        "$schema": _DRAFT,
        "title": "sollol inventory",
        "description": "The machines that sollol may use.",
        "type": "object",
        "properties": {
            "version": {"const": 1, "description": "The version of this format."},
            "defaults": {**settings, "description": "For every host; groups and hosts win."},
            "hosts": {
                "description": "The machines by name: aliases of ~/.ssh/config, or any name with "
                "an address. pi[01:03] stands for three of them.",
                "anyOf": [
                    {
                        "type": "object",
                        "propertyNames": name,
                        "additionalProperties": settings,
                        "minProperties": 1,
                    },
                    {"type": "array", "items": {"type": "string", **name}, "minItems": 1},
                ],
            },
            "groups": {
                "type": ["object", "null"],
                "description": "Names for sets of hosts: --workers GROUP.",
                "additionalProperties": group,
            },
            "network": _optional(network),
            "packages": _optional(_properties(PackageSettings, definitions)),
        },
        "required": ["hosts"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def job_schema() -> Schema:
    """The schema of a job file."""
    definitions: Schema = {}
    job = _properties(JobSpec, definitions)
    own = job["properties"]
    for prefix, kind in PARTS.items():
        inner = definitions[kind.__name__]["properties"]
        own |= {f"{prefix}.{f.name}": inner[f.name] for f in fields(kind)}
    for key, words in VALUES.items():
        own[key] = {**own[key], "enum": [*own[key]["enum"], *words]}
    for alias, key in ALIASES.items():
        own[alias] = _another_name(own[key], key)
    for key, foreign in FOREIGN.items():
        known = [value for value, _ in foreign.means]
        own[key] = {
            "enum": [*known, None],
            "description": f"Of other trainers: {foreign.otherwise}.",
        }
    required = [
        {"anyOf": [{"required": [name]} for name in (key, *_names_of(key))]}
        for key in job.pop("required")
    ]
    return {
        "$schema": _DRAFT,
        "title": "sollol job",
        **job,
        "allOf": required,
        "$defs": definitions,
    }


def _names_of(key: str) -> list[str]:
    return [alias for alias, meant in ALIASES.items() if meant == key]


def _another_name(schema: Schema, key: str) -> Schema:
    return {**schema, "description": f"Another name of {key}."}


def _optional(schema: Schema) -> Schema:
    return {**schema, "type": ["object", "null"]}


def _ranged() -> str:
    """A host's name, in which ranges may stand."""
    first, rest = NAME.pattern.split("]", 1)
    rest = rest.split("{")[0]
    return rf"({first}]|{_RANGE})({rest}|{_RANGE})*"


def _properties(kind: type, definitions: Schema) -> Schema:
    """The object schema of a dataclass; what it refers to goes into `definitions`."""
    schema = TypeAdapter(kind).json_schema()
    definitions |= {name: _plain(part) for name, part in schema.pop("$defs", {}).items()}
    plain: Schema = _plain(schema)
    return plain


def _plain(schema: Any) -> Any:
    """Without the titles that repeat each key, and without defaults that only say "left out"."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _plain(part) for name, part in value.items()}
        if key == "properties"
        else _plain(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "default" and value is None)
    }
