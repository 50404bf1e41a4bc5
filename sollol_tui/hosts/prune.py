"""Removes from a workdir what nobody needs: environments, payloads and wheels that provisioning
left, and the halves of builds, transfers and tokenising that were killed.

What a teacher said or wrote goes too: the coordinator has it, and sends it again. Refuses whatever
the current lock, a run directory or a living process uses, and what was changed so lately that
somebody may be about to use it or go on with it. Whole datasets and models stay, and so do runs.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sollol_tui.hosts.environment import IN_USE
from sollol_tui.hosts.shell import script
from sollol_tui.hosts.steps import Site
from sollol_tui.hosts.wheelhouse import MissingWheelsError
from sollol_tui.model.errors import CommandError
from sollol_tui.model.text import clean

PRUNE_S: Final = 600.0  # many small files on a slow disk

# A build's halves go while its lock is held by this script, so none can begin meanwhile; a build
# that waited for the lock notices that its file is gone and takes a new one. Of an environment's
# files those with further links lie in uv's cache too: only the others become free. Half a transfer
# is worth something, because the next one goes on with it: it stays for a day.
_SCRIPT: Final = (
    IN_USE
    + r"""
cd "$workdir" 2>/dev/null || exit 0
[ -O . ] || { echo "the workdir belongs to another account" >&2; exit 1; }
exists() { [ -e "$1" ] || [ -L "$1" ]; }
fresh() { find "$@" -mmin -1440 2>/dev/null | grep -q .; }
young() { [ -n "$(find "$1" -maxdepth 0 -mmin -60 2>/dev/null)" ]; }
listed() { case " $1 " in *" $2 "*) ;; *) return 1 ;; esac; }
run_with() { grep -lsF -- "$1" runs/*/*/run.json | sed -n '1s|/run.json$||p' | grep .; }
sum() { awk '{ sum += $'"$1"' } END { printf "%.0f", sum }'; }
remove() {
  name=$1; shift
  free=$(find "$@" -type f -links 1 -exec ls -ln {} + 2>/dev/null | sum 5)
  size=$(du -sk -- "$@" 2>/dev/null | sum 1)
  if [ -z "$dry" ]; then rm -rf -- "$@" || exit 1; fi
  echo "removed $size $free $name"
}
keep() { echo "kept $1: $2"; }
consider() {
  if user=$(in_use "$workdir/$3"); then keep "$1" "process $user uses it"
  elif run=$(run_with "/$3"); then keep "$1" "$run uses it"
  elif young "$2"; then keep "$1" "it was changed within the last hour"
  else remove "$1" "$2"
  fi
}
building=
for lock in envs/*.lock; do
  [ -e "$lock" ] || continue
  env=${lock%.lock}
  exec 9>>"$lock" || exit 1
  if command -v flock >/dev/null && ! flock -n 9; then
    building=yes; keep "half build ${env##*/}" "a build is going on"; exec 9>&-; continue
  fi
  set --
  for half in "$env.part" "$env.log" "$env".old.*; do exists "$half" && set -- "$@" "$half"; done
  [ -e "$env" ] || set -- "$@" "$lock"
  [ $# = 0 ] || remove "half build ${env##*/}" "$@"
  [ -n "$dry" ] || [ ! -s "$lock" ] || : >"$lock"
  exec 9>&-
done
for env in envs/*/; do
  env=${env%/}; id=${env##*/}
  case $id in '*' | *.part | *.old.*) continue ;; esac
  listed "$envs" "$id" || consider "environment $id" "$env" "$env/"
  [ -n "$dry" ] || [ -e "$env" ] || rm -f -- "$env.lock"
done
for folder in payload/*/; do
  folder=${folder%/}; hash=${folder##*/}
  [ "$hash" = '*' ] || [ "$hash" = "$payload" ] || consider "payload $hash" "$folder" "$folder"
done
for folder in bin/uv.*/; do
  exists "$folder" && ! young "$folder" && remove "half of a uv" "${folder%/}"
done
for half in models/*.part datasets/*.part datasets/*/*.part tokens/*.part tokens/*.work; do
  exists "$half" || continue
  case $half in tokens/*) lock=${half%.*}.lock; set -- "$half" ;;
    *) lock=$half.lock; set -- "$half" "$lock" ;;
  esac
  [ -e "$lock" ] || set -- "$half"
  fresh "$@" && continue
  if [ -e "$lock" ]; then
    exec 9>>"$lock" || exit 1
    if command -v flock >/dev/null && ! flock -n 9; then
      keep "half of ${half%.*}" "it is being completed"; exec 9>&-; continue
    fi
  fi
  remove "half of ${half%.*}" "$@"
  exec 9>&-
  case $half in datasets/*/*) [ -n "$dry" ] || rmdir -- "${half%/*}" 2>/dev/null ;; esac
done
teaching=
for run in runs/*/*/run.json; do
  grep -sq '"distill"' "$run" && in_use "$workdir/${run%/run.json}" >/dev/null &&
    teaching=${run%/run.json}
done
for told in scores/*/ answers/*; do
  told=${told%/}; exists "$told" || continue
  if [ -n "$teaching" ]; then keep "$told" "$teaching may use it"
  elif fresh "$told" -maxdepth 0; then keep "$told" "it was changed within the last day"
  else remove "$told" "$told"
  fi
done
if [ -z "$building" ]; then
  for folder in wheels/*/; do
    folder=${folder%/}
    [ "$folder" = 'wheels/*' ] || listed "$wheels" "$folder" || young "$folder" ||
      remove "$folder" "$folder"
  done
fi
exit 0
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """`size_bytes` is what it takes as one looks at it, `freed_bytes` what is free without it: the
    rest lies in uv's download cache too, which stays."""

    name: str
    size_bytes: int
    freed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """`kept` says what is not needed by the current lock and stays nevertheless, and why."""

    removed: tuple[Removal, ...]
    kept: tuple[str, ...]


async def prune(site: Site, *, dry_run: bool = False) -> Pruned:
    """Removes what nobody needs, or with `dry_run` says what that is. Raises CommandError."""
    text = script(
        _SCRIPT,
        workdir=site.workdir,
        envs=" ".join(site.candidates),
        payload=site.payload_hash,
        wheels=" ".join(await asyncio.to_thread(_wheels, site)),
        dry="yes" if dry_run else "",
    )
    done = await site.connection.run("sh -s", input=text, timeout_s=PRUNE_S, check=False)
    if done.exit_status != 0:
        raise CommandError(site.host, f"not everything could be removed: {done.complaint}")
    return parse_pruned(done.stdout.decode("utf-8", "replace"))


def _wheels(site: Site) -> set[str]:
    """The folders of the wheels from which its environments would be built."""
    wheelhouse, kept = site.wheelhouse(), set[str]()
    if wheelhouse is None:
        return kept
    for python in site.candidates.values():
        with suppress(MissingWheelsError):
            chosen = wheelhouse.chosen(site.host, site.facts, python.version, site.build, site.lock)
            kept |= {wheel.place.rpartition("/")[0] for wheel in chosen}
    return kept


def parse_pruned(text: str) -> Pruned:
    removed, kept = [], []
    for line in text.splitlines():
        word, _, rest = clean(line, limit=400).partition(" ")
        match = re.fullmatch(r"(\d{1,15}) (\d{1,18}) (.+)", rest)
        if word == "removed" and match is not None:
            kibibytes, freed, name = match.groups()
            removed.append(
                Removal(name=name, size_bytes=int(kibibytes) * 1024, freed_bytes=int(freed))
            )
        elif word == "kept":
            kept.append(rest)
    return Pruned(removed=tuple(removed), kept=tuple(kept))
