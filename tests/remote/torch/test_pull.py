"""A model of the Hub comes into a worker's cache, from a small Hub on the loopback interface."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
NAME = "lab/tiny"
REVISION = "1234567890abcdef1234567890abcdef12345678"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(100_000),
    "pytorch_model.bin": bytes(200_000),
}


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as fetching a model asks for."""

    def do_HEAD(self) -> None:
        self.answer(is_head=True)

    def do_GET(self) -> None:
        self.answer(is_head=False)

    def answer(self, *, is_head: bool) -> None:
        path = self.path.partition("?")[0]
        model, _, rest = path.removeprefix("/api/models").removeprefix("/").partition("/resolve/")
        if model == f"{NAME}/tree/{REVISION}":
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": "0" * 40}
                for file, data in FILES.items()
            ]
            self.say(200, json.dumps(entries).encode())
        elif model not in (NAME, f"{NAME}/revision/{REVISION}", f"{NAME}/revision/main"):
            self.say(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif rest:
            content = FILES[rest.partition("/")[2]]
            etag = hashlib.sha256(content).hexdigest()
            self.say(200, b"" if is_head else content, {"ETag": f'"{etag}"'}, len(content))
        else:
            siblings = [{"rfilename": file, "size": len(data)} for file, data in FILES.items()]
            self.say(200, json.dumps({"id": NAME, "sha": REVISION, "siblings": siblings}).encode())

    def say(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, size: int = -1
    ) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": REVISION, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size < 0 else size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def pull(home: Path, endpoint: str, *arguments: str, **env: str) -> dict[str, Any]:
    """What the program says at its end."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "remote.pull", *arguments],
        input='{"secrets": {}}\n',
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "HOME": str(home),
            "HF_HOME": str(home / "huggingface"),
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_XET": "1",
            **env,
        },
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {key: value for key, value in lines[-1].items() if key != "v"}


def test_a_model_is_fetched_once_without_weights_that_nobody_loads(
    hub: str, tmp_path: Path
) -> None:
    assert pull(tmp_path, hub, "revision", NAME) == {"kind": "revision", "revision": REVISION}
    said = pull(tmp_path, hub, "model", NAME, REVISION)
    folder = tmp_path / "huggingface/hub/models--lab--tiny/snapshots" / REVISION
    assert said == {"kind": "model", "path": str(folder)}
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert pull(tmp_path, "http://127.0.0.1:9", "model", NAME, REVISION) == said
    (folder / "model.safetensors").unlink()
    assert pull(tmp_path, "http://127.0.0.1:9", "model", NAME, REVISION)["kind"] == "no_way"


@pytest.mark.parametrize("env", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
def test_a_worker_without_a_way_out_says_so(tmp_path: Path, env: dict[str, str]) -> None:
    for arguments in (("revision", NAME), ("model", NAME, REVISION)):
        said = pull(tmp_path, "http://127.0.0.1:9", *arguments, **env)
        assert said["kind"] == "no_way"
        assert ("HF_HUB_OFFLINE" in said["reason"]) == bool(env)


def test_a_model_that_is_not_on_the_hub_is_refused(hub: str, tmp_path: Path) -> None:
    said = pull(tmp_path, hub, "model", "lab/absent", REVISION)
    assert said["kind"] == "refused"
    assert "no such model" in said["reason"]
