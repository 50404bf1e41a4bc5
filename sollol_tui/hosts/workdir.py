"""What lies in a host's workdir: the folder itself and the environments in it, whole or not. Mends
what loses nothing: the folder and its mode, and what a killed build left half done."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sollol_tui.hosts import payload as payloads
from sollol_tui.hosts.answers import answers
from sollol_tui.hosts.commands import last_answer
from sollol_tui.hosts.environment import COMPLETE, IN_USE
from sollol_tui.hosts.shell import assignments, quote, script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.model.diagnosis import Folder
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.text import clean

ANSWER_S: Final = 30.0
_MAX_ENVIRONMENTS: Final = 100

# A folder of envs/ that is neither whole nor under a lock is what a killed build left.
_SCRIPT: Final = (
    IN_USE
    + r"""
say() { printf '%s=%s\n' "$1" "$2"; }
say begin doctor
say user "$(id -un)"
folder=$workdir
while [ ! -d "$folder" ] && [ "$folder" != / ] && [ -n "$folder" ]; do
  parent=${folder%/*}; folder=${parent:-/}
done
say parent "$folder"
[ -w "$folder" ] && say writable yes
if [ -d "$workdir" ]; then
  say mode "$(stat -L -c %a "$workdir" 2>/dev/null)"
  if [ -O "$workdir" ]; then say owner "$(id -un)"
  else say owner "$(stat -L -c %U "$workdir" 2>/dev/null)"; fi
  if file=$(mktemp "$workdir/.doctor.XXXXXX" 2>&1); then
    printf '%4096s' '' 2>/dev/null >"$file" || say write_error 'no space left on its disk'
    rm -f -- "$file"
  else
    say write_error "$file"
  fi
fi
point=$(df -Pk "$folder" 2>/dev/null | tail -n 1 | sed 's/.*% //')
mount=
while read -r device at kind options rest; do
  [ "$at" = "$point" ] && mount="$kind $options"
done </proc/self/mounts
say mount "$mount"
say files "$(df -Pi "$folder" 2>/dev/null | tail -n 1)"
for env in "$workdir"/envs/*/; do
  env=${env%/}; id=${env##*/}
  [ -d "$env" ] || continue
  base=${env%.part}; state=half
  if [ "$base" != "$env" ]; then
    [ -e "$base.lock" ] && command -v flock >/dev/null && ! flock -n "$base.lock" true &&
      state=building
  elif [ -e "$env/$complete" ]; then
    state=broken; [ -x "$env/bin/python" ] && state=whole
  fi
  say env "$id $state"
  file=$env/.selfcheck.$payload
  [ -f "$file" ] && say "checked.$id" "$(head -c 20000 "$file")"
done
say used "$(in_use "$workdir/envs")"
say end doctor
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies in a workdir. `environments` maps ids to whole, broken, half or building; `checked`
    holds what the self-check of this payload said in each."""

    folder: Folder
    environments: Mapping[str, str]
    checked: Mapping[str, Mapping[str, Any]]
    is_used: bool = False


async def look_into(connection: HostConnection, facts: HostFacts) -> Found:
    """Asks, in one round trip."""
    payload = await asyncio.to_thread(lambda: payloads.payload_hash(payloads.payload_root()))
    text = script(_SCRIPT, workdir=facts.workdir, payload=payload, complete=COMPLETE)
    done = await connection.run("sh -s", input=text, timeout_s=ANSWER_S)
    said = answers(done.stdout.decode("utf-8", "replace"), "doctor", connection.host)
    return parse_found(said, facts)


def parse_found(said: Mapping[str, Sequence[str]], facts: HostFacts) -> Found:
    """What the script said, as far as it makes sense."""

    def first(key: str) -> str:
        values = said.get(key)
        return clean(values[0], limit=300).strip() if values else ""

    kind, _, options = first("mount").partition(" ")
    files = re.search(r"\s(\d{1,18})\s+\d{1,18}\s+(\d{1,18})\s+(?:\d+%|-)\s", first("files"))
    mode = first("mode")
    folder = Folder(
        path=facts.workdir,
        parent=first("parent"),
        mode=mode if re.fullmatch(r"[0-7]{1,4}", mode) else "",
        owner=first("owner"),
        user=first("user"),
        is_writable=first("writable") == "yes",
        write_error=first("write_error").rpartition(": ")[2],
        filesystem=kind,
        options=tuple(options.split(",")),
        files_free=int(files[2]) if files and int(files[1]) else None,
    )
    environments = {}
    for line in said.get("env", ())[:_MAX_ENVIRONMENTS]:
        name, _, state = clean(line, limit=120).partition(" ")
        if re.fullmatch(r"[0-9a-f]{8,64}(\.part)?", name):
            environments[name] = state
    checked = {}
    for name in environments:
        answer = last_answer((said.get(f"checked.{name}") or [""])[0].encode())
        if answer is not None:
            checked[name] = answer
    return Found(
        folder=folder,
        environments=environments,
        checked=checked,
        is_used=bool(first("used")),
    )


async def make_private(connection: HostConnection, workdir: str) -> None:
    """Makes the folder, or gives it its mode."""
    folder = quote(workdir)
    await connection.run(
        f"umask 077; mkdir -p -- {folder} && chmod 700 {folder}", timeout_s=ANSWER_S
    )


async def remove_halves(connection: HostConnection, workdir: str, ids: Sequence[str]) -> None:
    """Only those that nobody completed or builds meanwhile."""
    for name in ids:
        base = f"{workdir}/envs/{name.removesuffix('.part')}"
        variables = {"env": f"{workdir}/envs/{name}", "lock": f"{base}.lock"}
        await connection.run(
            f'{assignments({**variables, "complete": COMPLETE})}\nexec 9>>"$lock" || exit 1\n'
            "if command -v flock >/dev/null && ! flock -n 9; then exit 0; fi\n"
            '[ -e "$env/$complete" ] || rm -rf -- "$env"',
            timeout_s=ANSWER_S,
        )
