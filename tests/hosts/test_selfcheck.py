"""What a self-check on a host leaves behind, and what becomes of its complaints."""

import sys
from pathlib import Path

import pytest

from sollol_tui.hosts.selfcheck import run_selfcheck
from sollol_tui.hosts.ssh import HostConnection
from tests.payloads import stub_payload

SAYS_ITS_CACHE = """import json, os
print(json.dumps({"v": 1, "cache": os.environ["TORCHINDUCTOR_CACHE_DIR"]}))
"""
FAILS = """import json, sys
print(json.dumps({"v": 1, "error": "OSError: libcudart\\x1b[31m is not there"}))
sys.exit(1)
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An environment of a workdir."""
    file = tmp_path / "workdir" / "envs" / "abc" / "bin" / "python"
    file.parent.mkdir(parents=True)
    file.symlink_to(sys.executable)
    return file


def program(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `text` be the payload's self-check."""
    root = stub_payload(tmp_path / "stub")
    (root / "remote" / "selfcheck.py").write_text(text)
    monkeypatch.setenv("SOLLOL_PAYLOAD", str(root))


async def test_what_torch_compiles_stays_in_the_workdir(
    local: HostConnection, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(SAYS_ITS_CACHE, tmp_path, monkeypatch)
    tried = await run_selfcheck(local, str(python))
    assert tried.complaint == ""
    assert tried.answer["cache"] == f"{tmp_path}/workdir/torch-cache"


async def test_its_complaint_is_what_it_says_itself(
    local: HostConnection, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(FAILS, tmp_path, monkeypatch)
    tried = await run_selfcheck(local, str(python))
    assert tried.complaint == "OSError: libcudart is not there"


async def test_a_python_that_does_not_start_is_a_complaint(
    local: HostConnection, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(FAILS, tmp_path, monkeypatch)
    python.unlink()
    python.write_bytes(b"")
    python.chmod(0o600)
    tried = await run_selfcheck(local, str(python))
    assert "ermission denied" in tried.complaint
