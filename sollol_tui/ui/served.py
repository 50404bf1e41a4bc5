"""The application in a browser: textual-serve's page and protocol behind a token of ours. Lets in
nobody without it and no page of another origin; a tab is a process that ends with it, or with us.
"""

import asyncio
import errno
import hmac
import json
import os
import secrets
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp_jinja2
import jinja2
import psutil
import textual_serve
from aiohttp import WSCloseCode, WSMsgType, web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from sollol_tui.model.errors import SollolError

_ASSETS: Final = Path(textual_serve.__file__).parent
MOST_TABS: Final = 12  # each is a process of its own
_END_S: Final = 5.0  # that a tab's process may take to leave
_PORTS: Final = 20  # tried after the one that is taken
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE: Final = ("", "0.0.0.0", "::")
_HEADERS: Final = {
    # The page of textual-serve has a script and styles inside, and asks for a font elsewhere: no.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_TAKES_KEYS: Final = """<script>
  // Keys go to the terminal without a click on it.
  new MutationObserver((_, seen) => {
    const terminal = document.querySelector(".xterm-helper-textarea");
    if (terminal) { terminal.focus(); seen.disconnect(); }
  }).observe(document.body, {childList: true, subtree: true});
  document.title = "sollol";
</script>"""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Dashboard:
    """`command` starts the application for one tab; `token` is what the first address carries."""

    def __init__(self, command: Sequence[str], host: str) -> None:
        self.token = secrets.token_urlsafe(32)
        self.tabs: set[Tab] = set()
        self._command = command
        self._names = _names_of(host)
        self._key = secrets.token_urlsafe(32)  # what the cookie holds: not what stood in an address
        self._cookie = "sollol_" + secrets.token_hex(4)  # cookies of a host know no port

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(_ASSETS / "templates"))
        app.router.add_get("/", self._page)
        app.router.add_get("/ws", self._connect)
        app.router.add_static("/static", _ASSETS / "static")
        app.on_shutdown.append(self._close)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """403 for whoever comes by another name or from another page, 401 without the token."""
        try:
            response = await self._admit(request, handler)
        except web.HTTPException as refused:
            refused.headers.update(_HEADERS)
            raise
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if _name_of(request.host) not in self._names:
            raise web.HTTPForbidden(text="This dashboard does not answer to that name.\n")
        origin = request.headers.get("Origin")
        if origin != f"{request.scheme}://{request.host}" and (
            origin is not None or request.path == "/ws"
        ):
            raise web.HTTPForbidden(text="Other pages may not ask this dashboard for anything.\n")
        if request.path == "/" and _is_same(request.query.get("token", ""), self.token):
            into = web.HTTPSeeOther("/")  # the token leaves the address
            into.set_cookie(self._cookie, self._key, httponly=True, samesite="Strict", path="/")
            raise into
        if not _is_same(request.cookies.get(self._cookie, ""), self._key):
            raise web.HTTPUnauthorized(
                text="Open the whole address that `sollol dashboard` has printed, token included.\n"
            )
        return await handler(request)

    async def _page(self, request: web.Request) -> web.Response:
        """By the name that the browser used, so that a tunnel's port works as well."""
        here = f"{request.scheme}://{request.host}"
        size = request.query.get("fontsize", "")
        context = {
            "font_size": int(size) if size.isdecimal() and 6 <= int(size) <= 64 else 16,
            "app_websocket_url": f"{here.replace('http', 'ws', 1)}/ws",
            "config": {"static": {"url": f"{here}/static/"}},
            "application": {"name": "sollol"},
        }
        page = aiohttp_jinja2.render_string("app_index.html", request, context)
        whole = page.replace("</body>", f"{_TAKES_KEYS}</body>")
        return web.Response(text=whole, content_type="text/html")

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        if len(self.tabs) >= MOST_TABS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_TABS} tabs are open; close one.\n")
        browser = web.WebSocketResponse(heartbeat=15, max_msg_size=1 << 20)
        tab = Tab(self._command, browser)
        self.tabs.add(tab)  # before anything is awaited: many may come at once
        try:
            await browser.prepare(request)
            await tab.start(_cells(request, "width", 80), _cells(request, "height", 24))
            await tab.listen()
        finally:
            await tab.stop()
            self.tabs.discard(tab)
            if browser.prepared:
                await browser.close()
        return browser

    async def _close(self, _app: web.Application) -> None:
        await asyncio.gather(*(tab.browser.close() for tab in self.tabs))


class Tab(AppService):
    """The application's process for one tab of a browser."""

    def __init__(self, command: Sequence[str], browser: web.WebSocketResponse) -> None:
        super().__init__(
            "",
            write_bytes=browser.send_bytes,
            write_str=browser.send_str,
            close=self._leave,
            download_manager=DownloadManager(),
        )
        self.browser = browser
        self._argv = command

    async def _leave(self) -> None:
        await self.browser.close()

    async def _open_app_process(
        self, width: int = 80, height: int = 24
    ) -> asyncio.subprocess.Process:
        """Without a shell between; the process ends when it finds its end of a pipe closed, which
        happens whatever ends us."""
        theirs, ours = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                str(theirs),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                pass_fds=(theirs,),
                env={**self._build_environment(width, height), "TEXTUAL_FPS": "20"},
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._life = ours
        self._stdin = self._process.stdin
        return self._process

    async def listen(self) -> None:
        """Hands on what the browser says, until it goes."""
        async for message in self.browser:
            if message.type is not WSMsgType.TEXT:
                continue
            match _said(message.data):
                case ["stdin", str(typed)]:
                    await self.send_bytes(typed.encode(errors="replace"))
                case ["resize", {"width": int(width), "height": int(height)}]:
                    await self.set_terminal_size(_within(width), _within(height))
                case ["ping", said]:
                    await self.browser.send_json(["pong", said])
                case ["focus", *_]:
                    await self.focus()
                case ["blur", *_]:
                    await self.blur()
                case _:  # our page says nothing else; who does is no browser of ours
                    await self.browser.close(code=WSCloseCode.POLICY_VIOLATION)

    async def stop(self) -> None:
        """Returns once the process is gone, asked first and killed then."""
        if self._process is None:
            return
        # Apart: what the first one waits for takes a cancellation for its end, and then goes on.
        for leave in (super().stop, self._process.wait):
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(_END_S):
                    await leave()
        os.close(self._life)
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._process = None


async def serve(dashboard: Dashboard, listener: socket.socket, tell: Callable[[], None]) -> None:
    """Serves until it is cancelled; `tell` is called once it answers."""
    runner = web.AppRunner(dashboard.application(), access_log=None, shutdown_timeout=_END_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        tell()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def listen_on(host: str, port: int) -> socket.socket:
    """A listening socket on that port, or on the next one that is free. Raises SollolError."""
    for candidate in range(port, min(port + _PORTS, 65535) + 1):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            problem = error
            if error.errno != errno.EADDRINUSE:
                break
    raise SollolError(
        f"the dashboard cannot listen on {host} port {port}: {problem.strerror}",
        remedy="name another one with --host and --port",
    )


def tab_command(inventory: str | None, *, readonly: bool) -> list[str]:
    """What starts the application for one tab; the number of its pipe follows."""
    # -P: what lies in the user's folder is not ours to import.
    mode = "readonly" if readonly else "control"
    return [sys.executable, "-P", "-m", "sollol_tui.ui.tab", inventory or "", mode]


def _names_of(host: str) -> set[str]:
    """The names by which a browser may reach what listens there."""
    names = {*_LOOPBACK, host.lower()}
    if host in _EVERYWHERE:
        names |= {
            a.address.partition("%")[0] for each in psutil.net_if_addrs().values() for a in each
        }
        names.add(socket.gethostname().lower())
    return names - {""}


def _name_of(host: str) -> str:
    """ "localhost" of "localhost:5000", "::1" of "[::1]:5000"; "" of nonsense."""
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname or ""
    return ""


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _said(text: str) -> Any:
    """What a message says; None when it is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _cells(request: web.Request, key: str, otherwise: int) -> int:
    given = request.query.get(key, "")
    return _within(int(given)) if given.isdecimal() else otherwise


def _within(cells: int) -> int:
    return max(20, min(cells, 500))
