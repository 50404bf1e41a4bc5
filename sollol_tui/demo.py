"""The main job on this machine alone: two hosts that are folders here, reached over SSH like any
other, provisioned like any other. Makes what it needs and leaves nothing else behind."""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sollol_tui.client import SOLLOLClient
from sollol_tui.docstrings import docstring_rows, write_rows
from sollol_tui.hosts.ssh import connect
from sollol_tui.jobs.home import Home
from sollol_tui.model.errors import StateError
from sollol_tui.model.spec import JobSpec, Lora

HOSTS: Final = ("demo-a", "demo-b")
ROWS: Final = 4000
PROMPT: Final = "What does os.path.isfile(path) do?"
_MODEL_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Where the demo's files lie, under the state folder."""

    folder: Path

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"

    @property
    def dataset(self) -> Path:
        return self.folder / "docstrings.jsonl"

    @property
    def model(self) -> Path:
        return self.folder / "tiny-llama"

    def spec(self) -> JobSpec:
        """Adapter, embeddings and head are trained: a random base cannot be adapted alone."""
        return JobSpec(
            name="demo",
            model=str(self.model),
            dataset=str(self.dataset),
            workers=",".join(HOSTS),
            epochs=4,
            global_batch=32,
            batch_size=16,
            max_length=96,
            learning_rate=5e-3,
            warmup_ratio=0.06,
            lora=Lora(r=16, alpha=32, modules_to_save=["embed_tokens", "lm_head"]),
            save_steps=100,
            sample_prompts=[PROMPT],
            sample_tokens=40,
        )


def lay_out(home: Home) -> Demo:
    """Writes the demo's inventory and dataset."""
    demo = Demo(folder=home.root / "demo")
    demo.folder.mkdir(mode=0o700, exist_ok=True)
    with _whole(demo.inventory) as part:
        part.write_text(_inventory(demo.folder))
    with _whole(demo.dataset) as part:
        write_rows(docstring_rows(ROWS), part)
    return demo


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A private file to write, which then takes the place of `file`: another demo may read that."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _alone(demo: Demo) -> Iterator[None]:
    """Raises StateError while another process prepares the same demo."""
    descriptor = os.open(demo.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"another demo is being prepared in {demo.folder}",
                remedy="try again once it has begun",
            ) from None
        yield
    finally:
        os.close(descriptor)


async def make_model(client: SOLLOLClient, demo: Demo, say: Callable[[str], None]) -> None:
    """Provisions the first host and has it write the tiny model; nothing when it is there.
    Raises StateError while another process does the same."""
    with _alone(demo):
        if not (demo.model / "config.json").exists():
            await _make_model(client, demo, say)


async def _make_model(client: SOLLOLClient, demo: Demo, say: Callable[[str], None]) -> None:
    host = client.inventory().host(HOSTS[0])
    environment = await client.provision_host(
        host, lambda step: say(f"{host.name}: {step.name}: {step.detail or step.state}")
    )
    async with connect(host, [client.home.known_hosts]) as connection:
        say(f"{host.name}: making a tiny Llama")
        part = demo.model.with_suffix(".part")
        command = environment.command("remote.tiny", str(part), "--words-of", str(demo.dataset))
        await connection.run(command, timeout_s=_MODEL_TIMEOUT_S)
        part.rename(demo.model)  # the host is this machine; a killed demo leaves no half model


def _inventory(folder: Path) -> str:
    # Mirrors that this shell knows reach the hosts as they would reach real ones: by the inventory.
    known = os.environ.get
    find_links = known("UV_FIND_LINKS") or known("PIP_FIND_LINKS")
    index_url = known("UV_DEFAULT_INDEX") or known("PIP_INDEX_URL")
    cache = known("UV_CACHE_DIR") or str(folder / "uv-cache")
    lines = [
        "# Written by `sollol demo`: two hosts that are folders of this machine.",
        "version: 1",
        "defaults:",
        "  connection: local",
        "  limits: {gpu_ids: [], cpu_cores: 1}",
        f"  env: {{UV_CACHE_DIR: {json.dumps(cache)}}}",
        "hosts:",
        *(f"  {name}: {{workdir: {json.dumps(str(folder / 'hosts' / name))}}}" for name in HOSTS),
        "packages:",
        "  torch_backend: cpu",
    ]
    if find_links:
        lines.append(f"  find_links: {json.dumps(find_links)}")
    if index_url:
        lines.append(f"  index_url: {json.dumps(index_url)}")
    return "\n".join(lines) + "\n"
