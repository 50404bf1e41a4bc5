"""What every test gets: a home, a state folder and an SSH setup that are not the developer's."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
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
) -> Path:
    """Points HOME and SOLLOL_HOME at fresh folders; child processes inherit both."""
    home = tmp_path_factory.mktemp("home")
    # A Python of pyenv looks for itself through HOME unless it is told.
    monkeypatch.setenv("PYENV_ROOT", os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")))
    # uv would download everything again into each fresh home.
    monkeypatch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR", f"{CHECKOUT}/.cache/uv"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SOLLOL_HOME", str(home / "sollol-state"))
    for name in FROM_THE_DEVELOPER:
        monkeypatch.delenv(name, raising=False)
    return home


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that nobody waits for it alone at the end."""
    long_first = ("tests/cluster/training/", "tests/cluster/", "tests/jobs/", "tests/ui/")

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(CHECKOUT).as_posix()
        return next((n for n, name in enumerate(long_first) if file.startswith(name)), 9)

    items.sort(key=place)
