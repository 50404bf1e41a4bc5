"""The keys to log in with, and why they do not let us in. Asks for no passphrase.

A public key in place of a private one names a key of the ssh-agent, as it does for ssh.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncssh

from sollol_tui.hosts.destination import Destination
from sollol_tui.hosts.login import copy_key_by_hand
from sollol_tui.model.errors import AuthenticationError, HostError
from sollol_tui.model.inventory import Host
from sollol_tui.model.text import clean


def login_keys(host: Host, place: Destination) -> dict[str, Any]:
    """What asyncssh is told about keys; nothing where it finds them in ~/.ssh/config itself."""
    files = [os.path.expanduser(file) for file in place.identities]  # noqa: PTH111
    private = [file for file in files if not _is_public(file)]
    if len(private) == len(files):
        if host.identity_file is None:
            return {}
        return {"client_keys": files, "ignore_encrypted": True}  # the agent may hold it
    keys: dict[str, Any] = {"client_keys": private, "ignore_encrypted": True}
    if not private:
        keys["agent_identities"] = files
    return keys


def broken_key(host: Host, place: Destination, error: asyncssh.KeyImportError) -> HostError:
    """Which of the key files it is that holds no key."""
    default = sorted((Path.home() / ".ssh").glob("id_*"))
    files = place.identities or [str(file) for file in default if file.suffix != ".pub"]
    broken = [clean(file) for file in files if _is_broken(file)]
    return AuthenticationError(
        host.name,
        f"the key file {', '.join(broken) or 'of this host'} cannot be used: "
        f"{clean(str(error), limit=200)}",
        remedy="check identity_file in the inventory or IdentityFile in ~/.ssh/config",
    )


def not_admitted(host: Host, place: Destination, passed: Sequence[Destination]) -> HostError:
    """Why `place`, reached through those that were `passed`, refuses all keys there are."""
    files = place.identities or tuple(
        str(path) for path in sorted((Path.home() / ".ssh").glob("id_*")) if path.suffix != ".pub"
    )
    who = f"{clean(place.user)}@{clean(place.address)}"
    tried = [f"key {clean(file)}" for file in files]
    tried.append("the ssh-agent" if os.environ.get("SSH_AUTH_SOCK") else "no ssh-agent")
    told = f"tried: {', '.join(tried)}"
    for file in files:
        shown = clean(file)
        if _is_public(file):
            return AuthenticationError(
                host.name,
                f"{who} does not admit us: {shown} is a public key, which names one that the "
                f"ssh-agent holds; {told}",
                remedy=f"ssh-add {shown.removesuffix('.pub')}, or name the private key",
            )
        if _has_passphrase(file):
            return AuthenticationError(
                host.name,
                f"{who} does not admit us: the key {shown} has a passphrase, and the "
                f"ssh-agent does not hold it; {told}",
                remedy=f"ssh-add {shown}",
            )
    copied = copy_key_by_hand(place, passed, next(iter(place.identities), None))
    has_key = bool(files or os.environ.get("SSH_AUTH_SOCK"))
    return AuthenticationError(
        host.name,
        f"{who} does not admit us; {told}",
        remedy=f"{copied}, or load the key into the agent with ssh-add"
        if has_key
        else f"make a key with ssh-keygen -t ed25519, then {copied}",
    )


def _is_public(file: str) -> bool:
    try:
        text = Path(file).expanduser().read_bytes()
        if b"PRIVATE KEY" in text:  # the usual case, told without reading the key itself
            return False
        asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, OSError):
        return False
    return True


def _is_broken(file: str) -> bool:
    try:
        asyncssh.read_private_key(Path(file).expanduser())
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        return "passphrase" not in str(error).lower()
    except OSError:
        pass
    return False


def _has_passphrase(file: str) -> bool:
    try:
        asyncssh.read_private_key(Path(file).expanduser())
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        return "passphrase" in str(error).lower()
    except OSError:
        pass
    return False
