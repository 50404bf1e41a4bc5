"""What lies in a host's workdir: the folder itself and the environments in it, whole or not. Mends
what loses nothing: the folder and its mode, and what a killed build left half done."""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sollol_tui.hosts.answers import FOLDER, PRELUDE, Said, answers, first
from sollol_tui.hosts.disk import disk_error
from sollol_tui.hosts.environment import COMPLETE, IN_USE
from sollol_tui.hosts.shell import ENGLISH, assignments, quote, script
from sollol_tui.hosts.ssh import HostConnection
from sollol_tui.hosts.uv import LOOK_FOR_UV, NO_UV, ThereUv
from sollol_tui.model.facts import HostFacts
from sollol_tui.model.folder import Folder
from sollol_tui.model.text import clean

ANSWER_S: Final = 30.0
_MAX_ENVIRONMENTS: Final = 100

# What a system gives to all its accounts: closed to others, it would stop working.
_SYSTEM: Final = re.compile(
    r"/|/(bin|boot|dev|etc|home|lib\w*|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)"
    r"|/usr/(bin|lib\w*|local|sbin|share|src)|/var/(cache|lib|log|spool|tmp)"
)

# Tells of $workdir what `parse_folder` reads. What only provisioning leaves there tells that it was
# there before; an empty disk has its lost+found. Another provisioning may fill the folder while
# this runs: what was made meanwhile is no obstacle, and files are looked for before their owner.
LOOK: Final = (
    FOLDER
    + r"""
say user "$(id -un)"
say parent "$folder"
[ -w "$folder" ] && say writable yes
place=$workdir
while [ "$place" != "$folder" ] && [ -n "$place" ]; do
  if [ ! -d "$place" ] && { [ -e "$place" ] || [ -L "$place" ]; }; then say obstacle "$place"; fi
  parent=${place%/*}; place=${parent:-/}
done
if [ -d "$workdir" ]; then
  say mode "$(stat -L -c %a "$workdir" 2>/dev/null)"
  if [ -O "$workdir" ]; then say owner "$(id -un)"
  else say owner "$(stat -L -c %U "$workdir" 2>/dev/null)"; fi
  [ "$workdir" -ef "$HOME" ] && say home yes
  for file in "$workdir"/* "$workdir"/.[!.]* "$workdir"/..?*; do
    case ${file##*/} in .doctor.* | .writable | lost+found) continue ;; esac
    if [ -e "$file" ] || [ -L "$file" ]; then say filled yes; break; fi
  done
  for file in payload leases bin/uv 'envs/*.lock' 'envs/*.part' 'runs/*/*/run.json'; do
    for file in "$workdir"/$file; do [ -e "$file" ] && say ours yes && break 2; done
  done
fi
point=${df##*% }; mount=
while read -r device at kind options rest; do
  [ "$at" = "$point" ] && mount="$kind $options"
done </proc/self/mounts
say mount "$mount"
"""
)
# A folder of envs/ that is neither whole nor under a lock is what a killed build left.
_SCRIPT: Final = (
    PRELUDE
    + "say begin doctor\n"
    + IN_USE
    + LOOK
    + LOOK_FOR_UV
    + r"""
if [ -d "$workdir" ]; then
  if file=$(mktemp "$workdir/.doctor.XXXXXX" 2>&1); then
    printf '%4096s' '' 2>/dev/null >"$file" || say write_error 'no space left on its disk'
    rm -f -- "$file"
  else
    say write_error "$file"
  fi
fi
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
done
say used "$(in_use "$workdir/envs")"
say end doctor
tell
"""
)

_MAKE: Final = (
    ENGLISH
    + r"""
umask 077
mkdir -p -- "$folder" || exit 1
test -O "$folder" || { echo "Permission denied: it belongs to another account" >&2; exit 1; }
chmod 700 "$folder" && : >"$folder/.writable" && rm -f -- "$folder/.writable"
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What lies in a workdir. `environments` maps ids to whole, broken, half or building."""

    folder: Folder
    environments: Mapping[str, str]
    uv: ThereUv = NO_UV
    is_used: bool = False


async def look_into(connection: HostConnection, facts: HostFacts) -> Found:
    """Asks, in one round trip."""
    text = script(_SCRIPT, workdir=facts.workdir, complete=COMPLETE)
    done = await connection.run("sh -s", input=text, timeout_s=ANSWER_S)
    said = answers(done.stdout.decode("utf-8", "replace"), "doctor", connection.host)
    return parse_found(said, facts)


def parse_folder(said: Said, workdir: str) -> Folder:
    """What LOOK said."""
    kind, _, options = first(said, "mount").partition(" ")
    files = re.search(r"\s(\d{1,18})\s+\d{1,18}\s+(\d{1,18})\s+(?:\d+%|-)\s", first(said, "files"))
    mode = first(said, "mode")
    return Folder(
        path=workdir,
        parent=first(said, "parent"),
        mode=mode if re.fullmatch(r"[0-7]{1,4}", mode) else "",
        owner=first(said, "owner"),
        user=first(said, "user"),
        is_writable=first(said, "writable") == "yes",
        write_error=first(said, "write_error").rpartition(": ")[2],
        filesystem=kind,
        options=tuple(options.split(",")),
        files_free=int(files[2]) if files and int(files[1]) else None,
        obstacle=first(said, "obstacle"),
        is_home=first(said, "home") == "yes",
        is_ours=first(said, "ours") == "yes",
        is_empty=first(said, "filled") != "yes",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a folder cannot be a workdir, and what to do about it."""

    reason: str
    remedy: str


def objection(folder: Folder) -> Objection | None:
    """What forbids to make this folder, or to close it to others and fill it; None when nothing
    does. A folder that provisioning has filled before is not looked at for its files."""
    own = "set workdir to a folder of its own, such as ~/.sollol"
    if folder.obstacle:
        away = "move that away, or set workdir to another folder in the inventory"
        return Objection(reason=f"{folder.obstacle} is no folder", remedy=away)
    path = posixpath.normpath(f"/{folder.path.lstrip('/')}")
    if folder.is_home or _SYSTEM.fullmatch(path):
        what = "the account's home" if folder.is_home else "one of the system's folders"
        return Objection(reason=f"it is {what}, and a workdir is closed to others", remedy=own)
    if "noexec" in folder.options:
        return Objection(
            reason="its disk is mounted noexec, so no program there can run",
            remedy="mount it without noexec, or set workdir to another folder in the inventory",
        )
    if not folder.exists:
        return None
    if folder.owner != folder.user:
        give = f"sudo chown -R {folder.user}: {quote(folder.path)}, or " if folder.is_ours else ""
        return Objection(
            reason=f"it belongs to {folder.owner or 'somebody else'}, and we are {folder.user}",
            remedy=give + "set workdir to another folder in the inventory",
        )
    if folder.is_ours:
        return None
    below = f"set workdir to a new folder, such as {folder.path.rstrip('/')}/sollol"
    if int(folder.mode, 8) & 0o1000:
        return Objection(reason=f"it is a folder that all share, mode 0{folder.mode}", remedy=below)
    if not folder.is_empty:
        return Objection(reason="it holds files that are not sollol's", remedy=below)
    return None


def parse_found(said: Said, facts: HostFacts) -> Found:
    """What the script said, as far as it makes sense."""
    environments = {}
    for line in said.get("env", ())[:_MAX_ENVIRONMENTS]:
        name, _, state = clean(line, limit=120).partition(" ")
        if re.fullmatch(r"[0-9a-f]{8,64}(\.part)?", name):
            environments[name] = state
    return Found(
        folder=parse_folder(said, facts.workdir),
        environments=environments,
        uv=ThereUv.parse(first(said, "uv")),
        is_used=bool(first(said, "used")),
    )


async def make_private(connection: HostConnection, workdir: str) -> None:
    """Makes the folder to which there is no `objection`, or gives it its mode. Raises what
    `disk_error` makes of a failure."""
    done = await connection.run(
        f"{assignments({'folder': workdir})}\n{_MAKE}", timeout_s=ANSWER_S, check=False
    )
    if done.exit_status != 0:
        raise disk_error(connection.host.name, "the workdir", workdir, done.stderr)


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
