"""Ports of this machine for tests, at which others will listen or nobody does."""

from remote import ports

_BELOW = (10_000, 29_000)  # of these the kernel gives none to whoever asks for just any port


def unused_port() -> int:
    """A port at which nobody listens, nor will, until whoever was told of it does."""
    port = ports.free_port("127.0.0.1", *_BELOW)["port"]
    assert isinstance(port, int)
    return port
