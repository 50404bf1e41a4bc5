"""An idle lighthouse: tells the ranks of one job who else is there. Decides nothing: the ranks do.

Started by the agents of the lowest slots: `python -m remote.engine.lighthouse ADDRESS PORT`.
It dies with its parent. Of torchft only the extension module is loaded: the package
around it imports torch, which costs 1.5 s and 200 MB on a host that may need neither.
"""

import importlib.machinery
import importlib.util
import json
import os
import signal
import socket
import sys
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from remote.engine import WorldError
from remote.processes import die_with_parent
from remote.run import Lighthouse

DEAD_AFTER_MS = 1500  # without a heartbeat
BEAT_S = 0.4  # between two of them
STRAGGLER_S = 120  # it waits so long for a rank that beats: a slow step, or a checkpoint
CALL_TIMEOUT = timedelta(seconds=1)
TICK_MS = 50


class NoLighthouseError(WorldError):
    """This host has no torchft, or cannot listen; the message says which and what to do."""


@lru_cache(maxsize=1)
def coordination() -> Any:
    """torchft's LighthouseServer and LighthouseClient, without the package around them."""
    spec = importlib.util.find_spec("torchft")
    if spec is None or not spec.submodule_search_locations:
        raise NoLighthouseError(
            "the elastic engine needs torchft, which is not installed here (its wheels are for "
            "Linux on x86-64); set engine: static"
        )
    folder = Path(spec.submodule_search_locations[0])
    path = folder / f"_torchft{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    os.environ.setdefault("RUST_LOG", "error")  # at its default it writes lines for every step
    loader = importlib.machinery.ExtensionFileLoader("_torchft", str(path))
    extension = importlib.util.spec_from_loader("_torchft", loader)
    assert extension is not None
    module = importlib.util.module_from_spec(extension)
    loader.exec_module(module)
    return module


def serve(address: str, port: int) -> Any:
    """Listens at once; the lighthouse lives as long as what is returned. Ranks that beat but do not
    ask are waited for, STRAGGLER_S at most."""
    try:
        return coordination().LighthouseServer(
            bind=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
            min_replicas=1,
            join_timeout_ms=1000 * STRAGGLER_S,
            quorum_tick_ms=TICK_MS,
            heartbeat_timeout_ms=DEAD_AFTER_MS,
        )
    except RuntimeError as error:
        raise NoLighthouseError(
            f"no lighthouse can listen on {address}:{port} ({error}); is another program there?"
        ) from error


def port_of(server: Any) -> int:
    return int(server.address().rpartition(":")[2])


def knock(lighthouse: Lighthouse) -> None:
    """Raises an OSError when nothing listens there."""
    where = (lighthouse.address, lighthouse.port)
    socket.create_connection(where, CALL_TIMEOUT.total_seconds()).close()


def client_of(lighthouse: Lighthouse) -> Any:
    """A client; an OSError when nothing listens, which the client's own retries would hide."""
    knock(lighthouse)
    return coordination().LighthouseClient(lighthouse.url, connect_timeout=CALL_TIMEOUT)


def main(arguments: list[str]) -> int:
    address, port = arguments[0], int(arguments[1])
    die_with_parent(os.getppid())
    try:
        server = serve(address, port)
    except NoLighthouseError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"v": 1, "address": address, "port": port_of(server)}), flush=True)
    signal.pause()  # until a signal ends it
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
