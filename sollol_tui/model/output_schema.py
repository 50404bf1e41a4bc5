"""JSON schemas (draft 2020-12) of what reading commands print with --json, by the name that stands
in its key `schema`. Made from the dataclasses that are printed.

All keys are always there; a later version of the same name may add some and takes none away.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from sollol_tui.model.checkpoints import CheckpointView
from sollol_tui.model.diagnosis import Check, Outcome
from sollol_tui.model.evaluation import SCHEMA, Evaluation
from sollol_tui.model.evidence import Evidence
from sollol_tui.model.export import Exported
from sollol_tui.model.happenings import Happening
from sollol_tui.model.links import Endpoint, Link, Remedy
from sollol_tui.model.metrics import Series, StepPoint
from sollol_tui.model.plan import Plan
from sollol_tui.model.ranking import Ranked
from sollol_tui.model.snapshot import CoordinatorView, EvaluationView, HostView, JobView
from sollol_tui.model.states import JobState

Schema = dict[str, Any]
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


class _Shapes:
    """Gathers the definitions that the properties of one object refer to."""

    def __init__(self) -> None:
        self.definitions: Schema = {}

    def of(self, kind: Any) -> Schema:
        """The schema of a type as it is printed."""
        made = TypeAdapter(kind).json_schema(mode="serialization")
        self.definitions |= {name: _closed(part) for name, part in made.pop("$defs", {}).items()}
        closed: Schema = _closed(made)
        return closed

    def wider(self, kind: Any, **more: Any) -> Schema:
        """The schema of a dataclass that is printed with further keys."""
        own = self.of(kind)
        own = self.definitions[own["$ref"].rpartition("/")[2]] if "$ref" in own else own
        return self.object(own["properties"], **more)

    def object(self, properties: Schema | None = None, /, **kinds: Any) -> Schema:
        """An object whose keys have these types, or these schemas where they are some."""
        whole = dict(properties or {}) | {
            key: kind if isinstance(kind, dict) else self.of(kind) for key, kind in kinds.items()
        }
        return {"type": "object", "properties": whole, "required": list(whole)}


def _closed(schema: Any) -> Any:
    """With every property required: defaults are for those who make such a thing. Titles and
    defaults are left out."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: _closed(part) for name, part in value.items()}
        if key == "properties"
        else _closed(value)
        for key, value in schema.items()
        if key not in ("default", "title") or not isinstance(schema.get("type", ""), str | list)
    }
    made.pop("title", None)
    made.pop("default", None)
    if "properties" in made:
        made["required"] = list(made["properties"])
    return made


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _optional(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _status(shapes: _Shapes) -> Schema:
    return shapes.object(
        at=float, inventory=str, coordinator=CoordinatorView, hosts=tuple[HostView, ...],
        jobs=tuple[JobView, ...], inventory_problem=str,
    )  # fmt: skip


def _jobs(shapes: _Shapes) -> Schema:
    return shapes.object(jobs=list[JobView])


def _job(shapes: _Shapes) -> Schema:
    return shapes.object(
        job=JobView, evaluations=list[EvaluationView], evidence=Evidence,
        evaluated=_list(shapes.wider(Evaluation, schema=Literal[SCHEMA])), ranking=list[Ranked],
    )  # fmt: skip


def _hosts(shapes: _Shapes) -> Schema:
    return shapes.object(hosts=list[HostView])


def _resources(shapes: _Shapes) -> Schema:
    host = shapes.wider(HostView, free=bool)
    free = shapes.object(hosts=int, gpus=int, cpu_cores=int, ram_bytes=int)
    return shapes.object(at=float, hosts=_list(host), free=free)


def _doctor(shapes: _Shapes) -> Schema:
    check = shapes.wider(Check)
    check["properties"].pop("is_reached")
    check["required"].remove("is_reached")
    host = shapes.object(name=str, outcome=Outcome, checks=_list(check))
    network = shapes.object(
        endpoints=_list(shapes.wider(Endpoint, public=bool, backends=str)),
        links=_list(shapes.wider(Link, open=bool)),
        slowest=_optional(shapes.object(origin=str, target=str)),
        remedies=list[Remedy],
    )
    return shapes.object(at=float, hosts=_list(host), network=_optional(network))


def _dataset(shapes: _Shapes) -> Schema:
    piece = shapes.object(text=str, learnt=bool, left_out=int)
    example = shapes.object(row=int, pieces=_list(piece))
    made = shapes.object(
        path=str, files=list[str], format=str | None, rows=int | None, size_bytes=int,
        sha256=str, mean_chars=float, rows_over_length=int, rows_without_answer=int,
        rows_with_thinking=int, unread=dict[str, int],
        problems=list[str], problem_count=int, examples=_list(example),
    )  # fmt: skip
    made["properties"]["max_length"] = {"type": "integer", "description": "Of `check` alone."}
    return made


def _event(shapes: _Shapes) -> Schema:
    return shapes.wider(Happening)


def _evaluation(shapes: _Shapes) -> Schema:
    return shapes.wider(Evaluation)


def _export(shapes: _Shapes) -> Schema:
    return shapes.wider(Exported)


def _events(shapes: _Shapes) -> Schema:
    event = shapes.wider(Happening, schema=Literal["sollol.event/1"])
    return shapes.object(events=_list(event))


def _checkpoints(shapes: _Shapes) -> Schema:
    checkpoint = shapes.wider(CheckpointView, whole_at=list[str])
    return shapes.object(job=str, checkpoints=_list(checkpoint), silent=dict[str, str])


def _config(shapes: _Shapes) -> Schema:
    value = str | float | bool | list[str | int] | None
    setting = shapes.object(name=str, value=value, source=str)
    setting["properties"]["from"] = setting["properties"].pop("source")
    setting["required"] = list(setting["properties"])
    return shapes.object(settings=_list(setting))


def _config_path(shapes: _Shapes) -> Schema:
    return shapes.object(
        inventory=str, screen=str, state=str, database=str, jobs=str, known_hosts=str
    )


def _prune(shapes: _Shapes) -> Schema:
    job = shapes.object(
        job=str, name=str, state=JobState, ended_at=float, here_bytes=int, size_bytes=int,
        workers=dict[str, int], obstacles=dict[str, str], adapter=str,
    )  # fmt: skip
    taught = shapes.object(path=str, size_bytes=int)
    return shapes.object(removed=bool, jobs=_list(job), taught=_list(taught))


def _supervise(shapes: _Shapes) -> Schema:
    job = shapes.object(id=str, state=JobState, supervised=bool, started=bool)
    return shapes.object(jobs=_list(job))


def _log_line(shapes: _Shapes) -> Schema:
    return shapes.object(host=str, slot=int | None, text=str, at=float | None)


def _version(shapes: _Shapes) -> Schema:
    return shapes.object(sollol=str, python=str, asyncssh=str, textual=str)


def _metrics(shapes: _Shapes) -> Schema:
    job = shapes.object(id=str, name=str, steps=list[StepPoint], hosts=list[Series])
    return shapes.object(jobs=_list(job))


def _plan(shapes: _Shapes) -> Schema:
    made = shapes.wider(Plan, wait=str, odd=list[str])
    # Figures for people, told as far as hosts and links are known.
    made["properties"]["prediction"] = {"type": ["object", "null"]}
    return made


_MADE: Final[dict[str, Callable[[_Shapes], Schema]]] = {
    "sollol.checkpoints/1": _checkpoints,
    "sollol.config/1": _config,
    "sollol.config-path/1": _config_path,
    "sollol.dataset/1": _dataset,
    "sollol.doctor/1": _doctor,
    "sollol.evaluation/1": _evaluation,
    "sollol.event/1": _event,
    "sollol.events/1": _events,
    "sollol.export/1": _export,
    "sollol.hosts/1": _hosts,
    "sollol.job/1": _job,
    "sollol.jobs/1": _jobs,
    "sollol.log-line/1": _log_line,
    "sollol.metrics/1": _metrics,
    "sollol.plan/1": _plan,
    "sollol.prune/1": _prune,
    "sollol.resources/1": _resources,
    "sollol.status/1": _status,
    "sollol.supervise/1": _supervise,
    "sollol.version/1": _version,
}
OUTPUTS: Final = tuple(_MADE)


def output_schema(name: str) -> Schema:
    """The schema of one of OUTPUTS."""
    shapes = _Shapes()
    made = _MADE[name](shapes)
    properties = {"schema": {"const": name}, **made["properties"]}
    return {
        "$schema": _DRAFT,
        "title": name,
        **made,
        "properties": properties,
        "required": ["schema", *(key for key in made["required"] if key != "schema")],
        "$defs": shapes.definitions,
    }
