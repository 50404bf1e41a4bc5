"""Where a host keeps what it trains with: its Python, our payload, and how to call it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sollol_tui.hosts.shell import env_prefix, quote

COMPLETE: Final = ".complete"  # the file that says an environment was built to its end

# A function for our scripts: says which living process has a path in its command, environment or
# memory, and fails when there is none. Whatever runs out of an environment of ours has.
IN_USE: Final = r"""
in_use() {
  printf '%s\n' "$1" |
    grep -lsF -f - /proc/[0-9]*/cmdline /proc/[0-9]*/environ /proc/[0-9]*/maps |
    sed -n 's|^/proc/\([0-9]*\)/.*|\1|p' | grep -vx "$$" | head -n 1 | grep .
}
"""
# A function for our scripts: the sha256 of its input. openssl computes it several times faster than
# sha256sum, where it is there and works.
DIGEST: Final = r"""
digest() {
  case $(printf x | openssl dgst -sha256 -r 2>/dev/null) in
    2d711642b726b044*) openssl dgst -sha256 -r ;;
    *) sha256sum ;;
  esac | cut -c1-64
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What provisioning leaves behind; paths are absolute on the host. `fingerprint` is what the
    payload's self-check says: python, torch, accelerator. `changed` is False when all was there."""

    python: str
    payload: str
    env_id: str
    payload_hash: str
    changed: bool = False
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def command(self, module: str, *arguments: str) -> str:
        """The command line of one of the payload's programs; nothing of the current folder or of
        the user's own Python settings is imported."""
        prefix = env_prefix({"PYTHONPATH": self.payload})
        return f"{prefix} {quote(self.python, '-P', '-m', module, *arguments)}"
