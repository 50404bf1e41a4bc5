"""Who is still loading: told at the lighthouses, and read from the page that each of them shows.

A rank that loads beats under a name of its own, so that those who are ready do not take it for a
silent one. A lighthouse lets nobody go on without who beats, so where the job has begun it is left
alone.
"""

import re
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPException

from remote.engine.lighthouse import CALL_TIMEOUT, client_of
from remote.run import Lighthouse

PAGE_BYTES = 1 << 20
NOT_BEGUN = 0  # what a rank calls its step at a lighthouse until it has taken part in one
_HAS_BEGUN = re.compile(r"Step: [1-9]")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def tell_loading(lighthouses: Iterable[Lighthouse], job: str, slot: int) -> None:
    """Says where the job's ranks may be waiting that this slot is getting ready."""
    for lighthouse in lighthouses:
        if (page := _page(lighthouse)) and not _HAS_BEGUN.search(page):
            with suppress(OSError, RuntimeError):  # it went away meanwhile
                client_of(lighthouse).heartbeat(f"loading.{job}.{slot}", timeout=CALL_TIMEOUT)


def who_is_loading(lighthouses: Iterable[Lighthouse], job: str, within_s: float) -> set[int]:
    """The slots that said so at some lighthouse in the last `within_s` seconds."""
    said = re.compile(rf"loading\.{re.escape(job)}\.(\d+): seen ([\d.]+)s ago")
    pages = map(_page, lighthouses)
    heard = [found for page in pages for found in said.findall(page)]
    return {int(slot) for slot, age in heard if float(age) <= within_s}


def _page(lighthouse: Lighthouse) -> str:
    """Who asked it last and who beats, as HTML; empty where none answers."""
    try:
        with _DIRECT.open(f"{lighthouse.url}/status", timeout=CALL_TIMEOUT.total_seconds()) as page:
            text: bytes = page.read(PAGE_BYTES)
    except (OSError, HTTPException):
        return ""
    return text.decode(errors="replace")
