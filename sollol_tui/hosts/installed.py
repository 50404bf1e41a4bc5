"""What of ours a host has already: every question of provisioning, answered in one round trip."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sollol_tui.hosts.environment import COMPLETE
from sollol_tui.hosts.shell import script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.text import clean

ANSWER_S: Final = 30.0

# The payload counts only with every byte as it was sent and nothing beside it: whatever lies in its
# folder can be imported.
_SCRIPT: Final = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
[ -d "$workdir" ] && say workdir "$(stat -c %a "$workdir" 2>/dev/null)"
[ -x "$workdir/bin/uv" ] && say uv "$(($(wc -c <"$workdir/bin/uv")))"
for id in $ids; do
  [ -e "$workdir/envs/$id/$complete" ] && [ -x "$workdir/envs/$id/bin/python" ] && say env "$id"
done
[ -w "$workdir" ] && say writable yes
for wheel in "$workdir"/wheels/*/*.whl; do
  [ -f "$wheel" ] && say wheel "${wheel#"$workdir/"}"
done
if cd "$workdir/payload/$payload" 2>/dev/null; then
  found=$(find . -name __pycache__ -prune -o ! -type d -print | LC_ALL=C sort)
  if [ "$found" = "$names" ] && printf '%s\n' "$sums" | sha256sum -c >/dev/null 2>&1
  then say payload whole; else say payload altered; fi
fi
for id in $ids; do
  file=$workdir/envs/$id/.selfcheck.$payload
  [ -f "$file" ] && say "checked.$id" "$(head -c 20000 "$file")"
done
exit 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """`workdir_mode` is "" without a workdir, `uv_bytes` 0 without our uv; `environments` holds the
    ids of those built to their end, `wheels` the places below the workdir of those that were sent,
    `payload` is "", `whole` or `altered`; `checked` maps ids to what the self-check said there with
    this payload."""

    workdir_mode: str = ""
    is_writable: bool = False
    uv_bytes: int = 0
    environments: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    payload: str = ""
    checked: dict[str, dict[str, Any]] = field(default_factory=dict)


async def look(
    connection: HostConnection,
    workdir: str,
    *,
    env_ids: Sequence[str],
    payload: str,
    sums: str,
) -> Installed:
    """Asks for the workdir, uv, the environments `env_ids`, the payload and its self-checks."""
    names = sorted("./" + line.split("  ", 1)[1] for line in sums.splitlines())
    text = script(
        _SCRIPT,
        workdir=workdir,
        ids=" ".join(env_ids),
        payload=payload,
        complete=COMPLETE,
        sums=sums.rstrip("\n"),
        names="\n".join(names),
    )
    done = await connection.run("sh -s", input=text, timeout_s=ANSWER_S)
    return parse_installed(done.stdout.decode("utf-8", "replace"))


def parse_installed(text: str) -> Installed:
    said: dict[str, str] = {}
    environments: list[str] = []
    wheels: list[str] = []
    checked: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key == "env":
            environments.append(clean(value, limit=64))
        elif key == "wheel":
            wheels.append(clean(value, limit=400))
        elif key.startswith("checked."):
            answer = _json(value)
            if answer is not None:
                checked[key.removeprefix("checked.")] = answer
        else:
            said[key] = clean(value, limit=200)
    size = said.get("uv", "")
    return Installed(
        workdir_mode=said.get("workdir", ""),
        is_writable="writable" in said,
        uv_bytes=int(size) if size.isdecimal() and len(size) < 16 else 0,
        environments=tuple(environments),
        wheels=tuple(wheels),
        payload=said.get("payload", ""),
        checked=checked,
    )


def _json(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("v") == 1 else None
