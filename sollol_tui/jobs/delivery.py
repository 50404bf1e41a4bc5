"""How a job's dataset and model get to its workers: sent from here, or fetched there from the Hub.

All workers of a job train on the same bytes: a model of the Hub is one revision for all of them.
"""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from sollol_tui.hosts.environment import Environment
from sollol_tui.hosts.hub import HubAccess, NoWayError, cached_snapshot
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.transfer import Report, send_file, send_tree
from sollol_tui.hosts.tree import read_tree
from sollol_tui.jobs.hashes import Hashes
from sollol_tui.jobs.home import Home
from sollol_tui.model.errors import InputError
from sollol_tui.model.plan import DatasetFacts
from sollol_tui.model.units import format_bytes, format_duration

SAY_EVERY_S: Final = 1.0
SETTLED_S: Final = 2.0  # a speed measured over less says little
_WEIGHTS: Final = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"})
_SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@cache
def delivery(home: Home, job: str) -> "Delivery":
    """The one delivery of a job: its workers share what was found out for one of them."""
    return Delivery(hashes=Hashes(home.hashes))


@dataclass(slots=True, kw_only=True)
class Delivery:
    hashes: Hashes
    _revisions: dict[str, str] = field(default_factory=dict)
    _resolving: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def bring_dataset(
        self,
        connection: HostConnection,
        workdir: str,
        dataset: DatasetFacts,
        say: Callable[[str], None],
    ) -> str:
        """Returns where the dataset lies on the host; ranks fetch one of the Hub themselves. Raises
        HostError and InputError."""
        if dataset.is_on_hub:
            return dataset.path
        source = Path(dataset.path)
        there = f"{workdir}/datasets/{dataset.sha256}/{source.name}"
        report = pace("dataset", say)
        if not dataset.files:
            await send_file(connection, source, there, dataset.sha256, report=report)
            return there
        tree = await asyncio.to_thread(read_tree, source, self.hashes.sha256, names=dataset.files)
        if tree.sha256 != dataset.sha256:
            raise InputError.single(
                dataset.path, "its files are not those that were checked; submit the job again"
            )
        await send_tree(connection, tree, there, report=report)
        return there

    async def bring_model(
        self,
        connection: HostConnection,
        workdir: str,
        environment: Environment,
        model: str,
        say: Callable[[str], None],
    ) -> str:
        """Returns where the model lies on the host. Raises HostError and InputError."""
        if Path(model).is_absolute():
            return await self._send(connection, workdir, Path(model), say)
        access = _access(connection, workdir, environment)
        say(f"looking for {model}")
        revision = await self._pin(access, model)
        try:
            return await access.pull(model, revision, pace(f"{model} from the Hub", say))
        except NoWayError as error:
            snapshot = await asyncio.to_thread(cached_snapshot, model, revision)
            if snapshot is None:
                raise _no_way(error, model) from None
        say(f"sending {model} from this machine's cache")
        return await self._send(connection, workdir, snapshot.folder, say)

    async def _pin(self, access: HubAccess, model: str) -> str:
        """The revision that all workers take: the one in this machine's cache, else what the first
        worker that can tell says."""
        async with self._resolving:
            if model not in self._revisions:
                snapshot = await asyncio.to_thread(cached_snapshot, model)
                try:
                    found = snapshot.revision if snapshot else await access.revision(model)
                except NoWayError as error:
                    raise _no_way(error, model) from None
                self._revisions[model] = found
            return self._revisions[model]

    async def content_of(self, model: str) -> str:
        """What names a model's content: the sum of its folder, or its revision on the Hub; "" where
        only a host can tell. Raises InputError."""
        if Path(model).is_absolute():
            tree = await asyncio.to_thread(read_tree, Path(model), self.hashes.sha256)
            return tree.sha256
        snapshot = await asyncio.to_thread(cached_snapshot, model)
        revision = snapshot.revision if snapshot else self._revisions.get(model)
        return f"{model}@{revision}" if revision else ""

    async def ask_content(
        self, connection: HostConnection, workdir: str, environment: Environment, model: str
    ) -> str:
        """The same of a model of the Hub that this machine does not have. Raises HostError."""
        return f"{model}@{await self._pin(_access(connection, workdir, environment), model)}"

    async def bring_tokenizer(
        self,
        connection: HostConnection,
        workdir: str,
        environment: Environment,
        model: str,
        say: Callable[[str], None],
    ) -> str:
        """Returns a folder on the host that has all of a model but its weights, which are large; of
        one of the Hub the whole. Raises HostError and InputError."""
        if not Path(model).is_absolute():
            return await self.bring_model(connection, workdir, environment, model, say)
        names = [
            path.name
            for path in Path(model).iterdir()
            if path.is_file() and path.suffix not in _WEIGHTS
        ]
        return await self._send(connection, workdir, Path(model), say, names)

    async def _send(
        self,
        connection: HostConnection,
        workdir: str,
        folder: Path,
        say: Callable[[str], None],
        names: list[str] | None = None,
    ) -> str:
        tree = await asyncio.to_thread(read_tree, folder, self.hashes.sha256, names=names)
        there = f"{workdir}/models/{tree.sha256}"
        await send_tree(connection, tree, there, report=pace("model", say))
        return there


def _access(connection: HostConnection, workdir: str, environment: Environment) -> HubAccess:
    secrets = {name: os.environ[name] for name in _SECRETS if name in os.environ}
    return HubAccess(
        connection=connection, environment=environment, workdir=workdir, secrets=secrets
    )


def _no_way(error: NoWayError, model: str) -> NoWayError:
    return NoWayError(
        error.host,
        f"{error.message}, and this machine's Hub cache does not hold it",
        remedy=f"fetch it here with `hf download {model}`, or give the host a way out (env of the "
        "host: HF_ENDPOINT, HTTPS_PROXY)",
    )


def pace(what: str, say: Callable[[str], None]) -> Report:
    """Tells how far a transfer is, how fast, and when it will be done, once a second."""
    began, first, said = time.monotonic(), -1, 0.0

    def report(done: int, total: int) -> None:
        nonlocal first, said
        now = time.monotonic()
        first = done if first < 0 else first  # what was there already has no speed
        if now - said < SAY_EVERY_S and said:
            return
        said, passed = now, now - began
        percent = 100 * done // total if total else 100
        text = f"{what}: {percent}% {format_bytes(done)} of {format_bytes(total)}"
        if passed >= SETTLED_S and done > first:
            speed = (done - first) / passed
            text += f", {format_bytes(speed)}/s, {format_duration((total - done) / speed)} left"
        say(text)

    return report
