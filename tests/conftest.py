"""What every test gets: a home, a state folder and an SSH setup that are not the developer's."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
ENDS_S = 60.0  # how long a supervisor that was told to end may take where all is busy
FROM_THE_DEVELOPER = (
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "HF_TOKEN",
    "HF_HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "SOLLOL_INVENTORY",
    "NO_COLOR",
    "FORCE_COLOR",
    "COLUMNS",
)


@pytest.fixture(autouse=True)
def isolated_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Points HOME and SOLLOL_HOME at fresh folders; child processes inherit both. No supervisor
    may be at work in there when the test is over."""
    home = tmp_path_factory.mktemp("home")
    # A Python of pyenv looks for itself through HOME unless it is told.
    monkeypatch.setenv("PYENV_ROOT", os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")))
    # uv would download everything again into each fresh home.
    monkeypatch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR", f"{CHECKOUT}/.cache/uv"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SOLLOL_HOME", str(home / "sollol-state"))
    for name in FROM_THE_DEVELOPER:
        monkeypatch.delenv(name, raising=False)
    yield home
    deadline = time.monotonic() + ENDS_S
    while left := supervisors(home):
        assert time.monotonic() < deadline, f"supervisors are left: {left}"
        time.sleep(0.05)


def supervisors(home: Path) -> list[int]:
    """Processes that supervise jobs of a state below this folder. They hold no lock while they
    start, so only the system knows them."""
    if not (home / "sollol-state" / "jobs").exists():
        return []
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            if b"sollol_tui.jobs.supervise" in told[0] and bytes(home) in told[1]:
                found.append(int(process.name))
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that nobody waits for it alone at the end."""
    long_first = ("tests/cluster/training/", "tests/cluster/", "tests/jobs/", "tests/ui/")

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(CHECKOUT).as_posix()
        return next((n for n, name in enumerate(long_first) if file.startswith(name)), 9)

    items.sort(key=place)
