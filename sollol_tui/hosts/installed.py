"""What of ours a host has already: every question of provisioning, answered in one round trip."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sollol_tui.hosts.answers import PRELUDE, Said, answers, first
from sollol_tui.hosts.environment import COMPLETE
from sollol_tui.hosts.shell import script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.uv import LOOK_FOR_UV, NO_UV, ThereUv
from sollol_tui.hosts.workdir import LOOK, parse_folder
from sollol_tui.model.folder import Folder
from sollol_tui.model.text import clean

ANSWER_S: Final = 30.0

# The payload counts only with every byte as it was sent and nothing beside it: whatever lies in its
# folder can be imported.
_SCRIPT: Final = (
    PRELUDE
    + "say begin installed\n"
    + LOOK
    + LOOK_FOR_UV
    + r"""
for id in $ids; do
  [ -e "$workdir/envs/$id/$complete" ] && [ -x "$workdir/envs/$id/bin/python" ] && say env "$id"
done
for wheel in "$workdir"/wheels/*/*.whl; do
  [ -f "$wheel" ] && say wheel "${wheel#"$workdir/"}"
done
if cd "$workdir/payload/$payload" 2>/dev/null; then
  found=$(find . -name __pycache__ -prune -o ! -type d -print | sort)
  if [ "$found" = "$names" ] && printf '%s\n' "$sums" | sha256sum -c >/dev/null 2>&1
  then say payload whole; else say payload altered; fi
fi
for id in $ids; do
  file=$workdir/envs/$id/.selfcheck.$payload
  [ -f "$file" ] && say "checked.$id" "$(head -c 20000 "$file")"
done
say end installed
tell
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """`environments` holds the ids of those built to their end, `wheels` the places below the
    workdir of those that were sent, `payload` is "", `whole` or `altered`; `checked` maps ids to
    what the self-check said there with this payload."""

    folder: Folder
    uv: ThereUv = NO_UV
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
    said = answers(done.stdout.decode("utf-8", "replace"), "installed", connection.host)
    return parse_installed(said, workdir)


def parse_installed(said: Said, workdir: str) -> Installed:
    """What the script said, as far as it makes sense."""
    checked: dict[str, dict[str, Any]] = {}
    for key, values in said.items():
        if key.startswith("checked.") and (answer := _json(values[0])) is not None:
            checked[key.removeprefix("checked.")] = answer
    return Installed(
        folder=parse_folder(said, workdir),
        uv=ThereUv.parse(first(said, "uv")),
        environments=tuple(clean(value, limit=64) for value in said.get("env", ())),
        wheels=tuple(clean(value, limit=400) for value in said.get("wheel", ())),
        payload=first(said, "payload"),
        checked=checked,
    )


def _json(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("v") == 1 else None
