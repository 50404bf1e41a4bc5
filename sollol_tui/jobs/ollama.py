"""What Ollama builds a model from: a Modelfile beside an adapter or a merged model, and the call
that hands it over where Ollama is installed. Converts no weights."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.hub import cached_snapshot
from sollol_tui.hosts.shell import quote
from sollol_tui.jobs.errand import Say
from sollol_tui.jobs.events import read_events
from sollol_tui.jobs.store import Store
from sollol_tui.model.errors import InputError, StateError
from sollol_tui.model.spec import JobSpec
from sollol_tui.model.text import clean_lines

FILE: Final = "Modelfile"
TAKES_ADAPTERS: Final = ("llama", "mistral", "gemma", "gemma2")  # by model_type of config.json
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)*(:[\w.-]+)?")
# What the model has seen around a question while it was trained, where its tokenizer has no chat
# template: the headings of the workers' plain format.
PLAIN: Final = (
    "{{ if .System }}### System:\n{{ .System }}\n\n{{ end }}### Instruction:\n{{ .Prompt }}\n\n"
    "### Response:\n{{ .Response }}"
)
_TEMPLATES: Final = {"plain": PLAIN, "none": "{{ .Prompt }}{{ .Response }}"}
_STOPS: Final = {"plain": "\n\n### Instruction:"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaWish:
    """`base` is what stands behind FROM: "." for the folder itself. `notice` is what people should
    know of it."""

    name: str
    base: str
    has_adapter: bool
    template: str
    notice: str = ""

    @classmethod
    def of(
        cls,
        *,
        name: str,
        spec: JobSpec,
        model: str,
        base: str | None,
        is_merged: bool,
        template: str,
    ) -> "OllamaWish":
        """Raises InputError for what Ollama would not take."""
        if _NAME.fullmatch(name) is None:
            raise InputError.single("--ollama", f"'{name}' is no name for a model of Ollama's")
        if is_merged:
            if base is not None:
                raise InputError.single("--from", "a merged model needs no base; leave it out")
            return cls(name=name, base=".", has_adapter=False, template=template)
        if whole := spec.lora.modules_to_save:
            raise InputError.single(
                "--ollama",
                f"the adapter holds {', '.join(whole)} whole, which Ollama's adapters cannot; add "
                "--merge",
            )
        found = _base(model, base)
        return cls(
            name=name, base=found, has_adapter=True, template=template, notice=_notice(found)
        )


def template_of(store: Store, job: str) -> str:
    """What the job's ranks said of the template around their rows: "tokenizer", "plain", "none"."""
    said = [event.data.get("template") for event in read_events(store, job, ["ready"])]
    return next((str(template) for template in said if template), "tokenizer")


def place_modelfile(folder: Path, wish: OllamaWish) -> None:
    (folder / FILE).write_text(modelfile(wish))


def modelfile(wish: OllamaWish) -> str:
    """Paths in it begin at its folder, so that the folder may be moved; a base's stay."""
    lines = [f"FROM {_value(wish.base)}"]
    if wish.has_adapter:
        lines.append("ADAPTER .")
    if template := _TEMPLATES.get(wish.template):
        lines.append(f'TEMPLATE """{template}"""')
    if stop := _STOPS.get(wish.template):
        lines.append(f"PARAMETER stop {json.dumps(stop)}")
    return "\n".join(lines) + "\n"


def create(folder: Path, wish: OllamaWish, say: Say) -> dict[str, Any]:
    """Hands it to Ollama where that is installed; else what to run where it is. Raises
    StateError."""
    program = shutil.which("ollama")
    arguments = ["create", wish.name, "-f", str(folder / FILE)]
    command = quote("ollama", *arguments)
    if program is None:
        return {"command": command}
    say(f"ollama create {wish.name}")
    done = subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in clean_lines(done.stderr or done.stdout) if line.strip()]
        raise StateError(
            f"ollama does not take it: {lines[-1] if lines else f'exit {done.returncode}'}",
            remedy=f"the folder is {folder}; see what it says to: {command}",
        )
    return {"model": wish.name}


def _base(model: str, given: str | None) -> str:
    """What the adapter is laid on: a folder or a GGUF file here, or a name of Ollama's."""
    if given is not None:
        path = Path(given).expanduser()
        if path.exists():
            return str(path.resolve())
        if _NAME.fullmatch(given) is None or given.startswith("."):
            raise InputError.single("--from", f"{given} is neither here nor a name of Ollama's")
        return given
    if Path(model).is_absolute():
        return model
    snapshot = cached_snapshot(model)
    if snapshot is None:
        raise InputError.single(
            "--from",
            f"{model} is not on this machine; name what Ollama builds on: a folder, a GGUF file or "
            "a model that it has, such as --from llama3.2",
        )
    return str(snapshot.folder)


def _notice(base: str) -> str:
    try:
        kind = json.loads((Path(base) / "config.json").read_bytes())["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if kind in TAKES_ADAPTERS:
        return ""
    return (
        f"Ollama takes adapters for {', '.join(TAKES_ADAPTERS)}, and this base is {kind}; where it "
        "refuses, add --merge"
    )


def _value(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if " " in text else text
