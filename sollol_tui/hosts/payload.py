"""Where the workers' package lies here, what it hashes to, and how it travels. Nobody else knows both
places: the checkout's `remote/`, and `sollol_tui/_payload/remote` in a wheel."""

from pathlib import Path


def payload_root() -> Path:
    """The folder that holds `remote/`."""
    raise NotImplementedError


def payload_hash(root: Path) -> str:
    raise NotImplementedError


def payload_tar(root: Path) -> bytes:
    raise NotImplementedError
