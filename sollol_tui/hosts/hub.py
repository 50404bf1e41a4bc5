"""Models of the Hugging Face Hub: fetched by a host itself, or found in this machine's own cache.

Downloads nothing to this machine, and changes nothing in its cache.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.shell import assignments
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import Report
from sollol_tui.model.errors import CommandError, TransferError, UnsuitableError
from sollol_tui.model.text import clean, clean_lines

SILENCE_S: Final = 120.0  # a download that makes no progress still says so every second
_REVISION: Final = re.compile(r"[0-9a-f]{40,64}")


class NoWayError(UnsuitableError):
    """The host can neither reach the Hub nor has the model in its cache."""


def lacks(folder: Path) -> list[str]:
    """What is missing for a folder to hold a model. Raises ValueError for an index that is none."""
    missing = [name for name in ("config.json",) if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        missing.append("tokenizer.json")
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (KeyError, TypeError, AttributeError):
            raise ValueError(f"{index.name} is no index of weights") from None
        missing += [name for name in shards if not (folder / name).is_file()]
    return missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One revision of a model in a cache, whole; its files are links."""

    folder: Path
    revision: str


def cached_snapshot(
    name: str, revision: str | None = None, environ: Mapping[str, str] = os.environ
) -> Snapshot | None:
    """The model in this machine's cache: that revision, by default the one that `main` was when it
    was last fetched. None when it is not there whole."""
    folder = _cache(environ) / ("models--" + name.replace("/", "--"))
    with suppress(OSError, ValueError):
        commit = revision or (folder / "refs" / "main").read_text().strip()
        snapshot = folder / "snapshots" / commit
        if _REVISION.fullmatch(commit) and snapshot.is_dir() and not lacks(snapshot):
            return Snapshot(folder=snapshot, revision=commit)
    return None


def _cache(environ: Mapping[str, str]) -> Path:
    if place := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(place).expanduser()
    general = environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = environ.get("HF_HOME") or f"{general}/huggingface"
    return Path(home).expanduser() / "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """How one host gets at the Hub: with the environment that its ranks will have."""

    connection: HostConnection
    environment: Environment
    workdir: str
    secrets: Mapping[str, str]

    async def revision(self, name: str) -> str:
        """The commit that `main` is now, or was when the host last saw it. Raises NoWayError, and
        UnsuitableError when the Hub refuses."""
        async with aclosing(self._ask("revision", name)) as answers:
            async for answer in answers:
                revision = str(answer.get("revision"))
                if answer["kind"] == "revision" and _REVISION.fullmatch(revision):
                    return revision
        raise self._nonsense(name)

    async def pull(self, name: str, revision: str, report: Report) -> str:
        """Makes the model be in the host's cache; returns its folder there. Raises as above."""
        async with aclosing(self._ask("model", name, revision)) as answers:
            async for answer in answers:
                done, total, path = (answer.get(key) for key in ("done", "total", "path"))
                if answer["kind"] == "progress" and isinstance(done, int):
                    report(done, total if isinstance(total, int) else done)
                elif answer["kind"] == "model" and isinstance(path, str) and _is_path(path):
                    return path
        raise self._nonsense(name)

    async def _ask(self, *arguments: str) -> AsyncGenerator[dict[str, Any]]:
        host = self.connection.host
        given = {"HF_HOME": f"{self.workdir}/huggingface", **host.env}
        command = self.environment.command("remote.pull", *arguments)
        process = await self.connection.open(f"export {assignments(given)}; {command}")
        try:
            await process.write(json.dumps({"secrets": dict(self.secrets)}).encode() + b"\n")
            await process.write_eof()
            while True:
                async with asyncio.timeout(SILENCE_S):
                    line = await process.readline()
                if not line:
                    break
                if (answer := _answer(line)) is not None:
                    self._raise_refusal(answer, arguments[1])
                    yield answer
            await process.wait()
            if said := [line for line in clean_lines(process.error_output, limit=300) if line]:
                raise CommandError(host.name, f"cannot fetch {arguments[1]}: {said[-1]}")
        except BrokenPipeError:
            raise self._nonsense(arguments[1]) from None
        except TimeoutError:
            raise TransferError(
                host.name,
                f"its download of {arguments[1]} says nothing for {SILENCE_S:g} s",
                remedy="check its network; the download goes on where it stopped",
            ) from None
        finally:
            await process.close()

    def _raise_refusal(self, answer: Mapping[str, Any], name: str) -> None:
        reason = clean(str(answer.get("reason")), limit=300)
        host = self.connection.host.name
        if answer["kind"] == "no_way":
            raise NoWayError(host, f"cannot fetch {name} from the Hub: {reason}")
        if answer["kind"] == "refused":
            raise UnsuitableError(
                host,
                f"cannot fetch {name}: {reason}",
                remedy="check the model's name and its licence on the Hub, and set HF_TOKEN here",
            )

    def _nonsense(self, name: str) -> CommandError:
        host = self.connection.host.name
        return CommandError(
            host,
            f"gave no answer about {name}",
            remedy=f"sollol provision {host} --recreate",
        )


def _answer(line: bytes) -> dict[str, Any] | None:
    """Libraries may print too."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(value, dict) and value.get("v") == 1 and "kind" in value
    return value if is_ours else None


def _is_path(path: str) -> bool:
    return path.startswith("/") and clean(path) == path
