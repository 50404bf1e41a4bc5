"""Workers without torch, each with its own folder, ended whatever the test did."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.payloads import stub_payload
from tests.remote.worker import Worker


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stub_payload(tmp_path_factory.mktemp("payload") / "stub")


@pytest.fixture
def make_worker(payload: Path, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def make(*, ranks: int = 1, **env: str) -> Worker:
        workers.append(Worker(payload, tmp_path / f"workdir{len(workers)}", ranks=ranks, **env))
        return workers[-1]

    yield make
    for worker in workers:
        worker.end()
