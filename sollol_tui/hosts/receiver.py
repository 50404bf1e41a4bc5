"""The far end of a transfer: what runs on the host, what it answers, and what its failures mean.

The scripts ask for sh, tar, sha256sum and what else busybox has. Whoever receives holds a lock: two
coordinators that send the same thing take turns, and one that is gone is put out of the way.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from sollol_tui.hosts.disk import disk_error
from sollol_tui.hosts.environment import DIGEST
from sollol_tui.hosts.shell import ENGLISH, assignments
from sollol_tui.hosts.ssh import HostConnection, RemoteProcess
from sollol_tui.model.errors import TransferError
from sollol_tui.model.text import clean
from sollol_tui.model.units import format_bytes

STALL_S: Final = 60.0  # how long one step of a transfer may stand still
PATIENCE_S: Final = 30  # after that a receiver to which nothing comes has lost its sender
_SLOWEST: Final = 1024 * 1024  # bytes a second at which any host hashes

_COMMON: Final = (
    ENGLISH
    + DIGEST
    + r"""
umask 077
folder=${target%/*}
lock=$part.lock
size() { if [ -f "$1" ]; then echo $(($(wc -c <"$1"))); else echo 0; fi; }
# KiB, the eleventh word: seven make the heading. Every program that is started costs: few are.
free() {
  set -- $(df -Pk -- "$folder" 2>/dev/null)
  free=${11}; case $free in *[!0-9]*) free= ;; esac
}
need_room() {
  free; [ -n "$free" ] || return 0
  [ "$1" -le $((free * 1024)) ] || { echo "full $1 $((free * 1024))"; exit 0; }
}
# What was received stays for another try, unless that is what fills the disk.
give_up() {
  free; [ "${free:-1024}" -ge 1024 ] && exit 1
  rm -rf -- "$part"; need_room "$1"; exit 1
}
# Nobody waits for the disk: a file is read through whenever it is asked for, a folder has its mark.
mark=
flush() {
  { sync -f "$folder" 2>/dev/null || sync; [ -z "$mark" ] || rm -f -- "$mark"; } \
    </dev/null >/dev/null 2>&1 9>&- &
}
# A lock is a file of its own: a program that anyone holds open for writing cannot be started. It
# names its holder while bytes are to come. One who gets none has lost its coordinator without a
# word, and would wait for ever; that it has this very lock open tells that it is still the same.
take_lock() {
  exec 9>>"$lock" || exit 1
  command -v flock >/dev/null || return
  still=0; seen=
  until flock -n 9; do
    echo waiting; sleep 1
    now=$(du -sk "$part" 2>/dev/null); still=$((still + 1))
    [ "$now" = "$seen" ] || { still=0; seen=$now; }
    [ "$still" -ge "$patience" ] || continue
    holder=; read -r holder <"$lock"
    case $holder in ''|*[!0-9]*) continue ;; esac
    [ "/proc/$holder/fd/9" -ef "$lock" ] && kill -9 "-$holder"
  done
}
"""
)
FILE: Final = (
    _COMMON
    + r"""
has() { [ "$(size "$1")" -eq "$total" ] && [ -f "$1" ] && [ "$(digest <"$1")" = "$sha256" ]; }
[ -d "$folder" ] || mkdir -p -- "$folder" || exit 1
if has "$target"; then echo there; exit 0; fi
take_lock
if has "$target"; then echo there; exit 0; fi
got=$(size "$part")
[ "$got" -le "$total" ] || got=0
[ "$got" -gt 0 ] || rm -f -- "$part"
need_room $((total - got))
: >>"$part" && echo "offset $got" && echo $$ >"$lock" || exit 1
cat >>"$part"
: >"$lock"
[ "$(size "$part")" -ge "$total" ] || give_up "$total"
if [ "$(digest <"$part")" != "$sha256" ]; then rm -f -- "$part"; echo damaged; exit 0; fi
chmod "$mode" "$part" && mv -f -- "$part" "$target" && rm -f -- "$lock" || exit 1
echo received
flush
"""
)
# `$part/tree` becomes the folder. Big files come into it by transfers of their own, verified; the
# rest as one archive, with its sums beside the tree. A folder is believed by its name, so a mark
# with the boot's id stands beside it until it is on disk: after a power cut it is looked through.
TREE: Final = (
    _COMMON
    + r"""
mark=$target.unflushed
read -r boot </proc/sys/kernel/random/boot_id
has() {
  [ -d "$target" ] || return 1
  [ -e "$mark" ] || return 0
  marked=; read -r marked <"$mark"; [ "$marked" = "$boot" ]
}
if has; then echo there; exit 0; fi
[ -d "$folder" ] || mkdir -p -- "$folder" || exit 1
take_lock
if has; then echo there; exit 0; fi
if [ -d "$target" ]; then
  rm -rf -- "$part/tree"; mkdir -p -- "$part" && mv -- "$target" "$part/tree" || exit 1
fi
if [ -d "$part/tree" ]; then
  set -- $(du -sk "$part")
  need_room $((total > $1 * 1024 ? total - $1 * 1024 : 0))
  cd -- "$part/tree" && find . -type f -exec sha256sum {} +
else
  need_room "$total"
  mkdir -p -- "$part/tree" && cd -- "$part/tree" || exit 1
fi
echo ready && echo $$ >"$lock" || exit 1
tar -xf - -C "$part" -o || give_up "$total"
: >"$lock"
[ -f ../sums ] || give_up "$total"
[ ! -s ../sums ] || sha256sum -c ../sums >/dev/null 2>&1 || { echo damaged; exit 0; }
cd -- "$folder" && echo "$boot" >"$mark" && mv -- "$part/tree" "$target" || exit 1
rm -rf -- "$part" "$lock"; echo received
flush
"""
)


class Receiver:
    """A script that runs on the host, as the sender sees it."""

    def __init__(
        self, connection: HostConnection, process: RemoteProcess, target: str, total: int
    ) -> None:
        self.host = connection.host.name
        self.process = process
        self._folder = target.rpartition("/")[0]
        self._patience_s = STALL_S + total / _SLOWEST

    @property
    def complains(self) -> bool:
        """Whether something went wrong there: nothing more needs to be sent."""
        return bool(self.process.error_output)

    async def answer(self) -> str:
        """Its next word, `waiting` left out. Raises TransferError with its complaint when it has
        none, or when the disk has no room."""
        while (word := await self._line()) == "waiting":
            pass
        if match := re.fullmatch(r"full (\d{1,18}) (\d{1,18})", word):
            raise TransferError(
                self.host,
                f"no room for what is sent: it needs {format_bytes(int(match[1]))}, "
                f"{format_bytes(int(match[2]))} are free",
                remedy="free some on the disk of its workdir, or set workdir to another one",
            )
        return word

    async def _line(self) -> str:
        try:
            async with asyncio.timeout(self._patience_s):
                line = await self.process.readline()
                if line:
                    return clean(line)
                await self.process.wait()
        except TimeoutError:
            raise TransferError(
                self.host, f"no answer to a transfer within {self._patience_s:.0f} s"
            ) from None
        raise disk_error(self.host, "what is sent", self._folder, self.process.error_output)

    def nonsense(self, answer: str) -> TransferError:
        return TransferError(self.host, f"answers {clean(answer, limit=80)!r} to a transfer")


@asynccontextmanager
async def receiver(
    connection: HostConnection, text: str, total: int, variables: Mapping[str, str]
) -> AsyncIterator[Receiver]:
    """Starts one of the scripts above for `total` bytes; it sees the end of its input when the
    caller leaves."""
    given = {**variables, "total": str(total), "patience": str(PATIENCE_S)}
    process = await connection.open(f"{assignments(given)}; {text}")
    try:
        yield Receiver(connection, process, variables["target"], total)
    finally:
        await process.close()
