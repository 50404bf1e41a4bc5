"""The application behind a web server: who is let in, and that no process outlives its tab."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")

from sollol_tui.jobs.home import open_home  # noqa: E402
from sollol_tui.jobs.store import Store  # noqa: E402
from sollol_tui.model.states import JobState  # noqa: E402
from sollol_tui.ui.served import MOST_TABS, Dashboard, listen_on, serve, tab_command  # noqa: E402
from tests.cli.furnished import supervised  # noqa: E402
from tests.jobs.samples import add_job  # noqa: E402
from tests.ui.browser import IS_WANTED, Browser, open_browser  # noqa: E402

DEADLINE_S = 60.0
LISTENS = ["sh", "-c", "head -c 1 >/dev/null"]  # until it is told anything, such as to leave
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    dashboard: Dashboard
    url: str

    @property
    def door(self) -> str:
        return f"{self.url}/?token={self.dashboard.token}"

    @property
    def ws(self) -> str:
        return f"{self.url}/ws?width=100&height=30".replace("http", "ws", 1)


@asynccontextmanager
async def served(command: list[str]) -> AsyncIterator[Served]:
    dashboard = Dashboard(command, "127.0.0.1")
    with listen_on("127.0.0.1", 0) as listener:
        ready = asyncio.Event()
        serving = asyncio.create_task(serve(dashboard, listener, ready.set))
        try:
            await ready.wait()
            yield Served(dashboard=dashboard, url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            serving.cancel()
            await asyncio.wait({serving})


async def until(what: Callable[[], Any], why: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := what()):
        assert time.monotonic() < deadline, f"{why}: not within {DEADLINE_S:.0f} s"
        await asyncio.sleep(0.02)
    return value


async def test_nobody_is_let_in_without_the_token() -> None:
    async with served(["true"]) as it, aiohttp.ClientSession() as stranger:
        for path in ("/", "/?token=", "/?token=wrong", "/static/js/textual.js", "/download/x"):
            async with stranger.get(it.url + path) as answer:
                assert answer.status == 401, path
        async with stranger.get(it.url + "/") as answer:
            assert "the whole address that `sollol dashboard` has printed" in await answer.text()
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await stranger.ws_connect(it.ws, origin=it.url)
        assert not it.dashboard.tabs


async def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_never_see() -> None:
    jar = aiohttp.CookieJar(unsafe=True)  # of an address instead of a name
    async with served(["true"]) as it, aiohttp.ClientSession(cookie_jar=jar) as owner:
        async with owner.get(it.door, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert it.dashboard.token not in cookie
        async with owner.get(it.url) as answer:
            assert answer.status == 200
            assert it.url.replace("http", "ws", 1) in await answer.text()
            assert answer.headers["Cache-Control"] == "no-store"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


async def test_other_pages_and_other_names_are_refused_though_the_cookie_is_right() -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with served(["true"]) as it, aiohttp.ClientSession(cookie_jar=jar) as owner:
        async with owner.get(it.door):
            pass
        port = it.url.rpartition(":")[2]
        for origin in ("http://evil.example", f"http://localhost:{port}", "null"):
            async with owner.get(it.url, headers={"Origin": origin}) as answer:
                assert answer.status == 403, origin
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await owner.ws_connect(it.ws, origin=origin)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await owner.ws_connect(it.ws)  # a browser always tells its origin
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "["):
            async with owner.get(it.url, headers={"Host": host}) as answer:
                assert answer.status in (400, 403), host
        async with owner.get(it.door, headers={"Host": "localhost:8080"}) as answer:
            assert answer.status == 200, "through a tunnel"
        assert not it.dashboard.tabs


def test_the_next_free_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen_on("127.0.0.1", port) as listener:
            assert port < listener.getsockname()[1] <= port + 20


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A job that runs as far as anybody can tell."""
    monkeypatch.chdir(tmp_path)
    host = {"connection": "local", "workdir": str(tmp_path / "w1")}
    (tmp_path / "inventory.yaml").write_text(json.dumps({"hosts": {"w1": host}}))
    with Store(open_home()) as store:
        job = add_job(store, "w1 cpu", "w2 cpu", name="tools-621k")
        for state in (JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING):
            store.move_job(job, state)
        with supervised():
            yield job


def tab_processes() -> list[psutil.Process]:
    """Of tabs that this process serves; earlier tests may have left others behind."""
    return [child for child in psutil.Process().children() if is_tab(child)]


def is_tab(process: psutil.Process) -> bool:
    try:
        return "sollol_tui.ui.tab" in process.cmdline()
    except psutil.Error:
        return False


async def test_a_process_ends_with_its_tab_and_not_before(running: str) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    command = tab_command(None, readonly=True)
    async with served(command) as it, aiohttp.ClientSession(cookie_jar=jar) as owner:
        async with owner.get(it.door):
            pass
        painted = b""
        async with owner.ws_connect(it.ws, origin=it.url) as browser:
            async with asyncio.timeout(DEADLINE_S):
                while b"tools-621k" not in painted:
                    painted += (await browser.receive()).data
            (process,) = tab_processes()
            await browser.send_json(["stdin", "2"])
            async with asyncio.timeout(DEADLINE_S):
                while b"2 samples" not in painted and b"made " not in painted:
                    painted += (await browser.receive()).data
        await until(lambda: not process.is_running(), "the tab's process ends")
        await until(lambda: not it.dashboard.tabs, "nothing is left of it here")


async def test_of_many_tabs_at_once_no_more_are_let_in_than_there_may_be() -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with served(LISTENS) as it, aiohttp.ClientSession(cookie_jar=jar) as owner:
        async with owner.get(it.door):
            pass

        async def status() -> int:
            async with owner.get(it.ws, headers=HANDSHAKE | {"Origin": it.url}) as answer:
                return answer.status

        opened = await asyncio.gather(*(status() for _ in range(30)))
        assert (opened.count(101), opened.count(503)) == (MOST_TABS, 30 - MOST_TABS)


async def test_a_tab_that_does_not_hear_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sollol_tui.ui.served._END_S", 0.1)
    others = {*psutil.Process().children()}  # which other tests may have left

    def begun() -> set[psutil.Process]:
        return {*psutil.Process().children()} - others

    jar = aiohttp.CookieJar(unsafe=True)
    async with served(["sleep", "600"]) as it, aiohttp.ClientSession(cookie_jar=jar) as owner:
        async with owner.get(it.door):
            pass
        async with owner.ws_connect(it.ws, origin=it.url) as browser:
            await browser.send_str('["stdin", "\\ud800"]')  # half a character is no harm
            await browser.send_str('["ping", 1]')
            async with asyncio.timeout(DEADLINE_S):
                assert await browser.receive_str() == '["pong", 1]'
            (process,) = await until(begun, "it has a process")
        await until(lambda: not it.dashboard.tabs, "nothing is left of it here")
        assert not process.is_running()


NONSENSE = {
    "no JSON": "{no json",
    "no text": '["stdin", 5]',
    "deep": "[" * 100_000,
    "what only a server may say": '["quit"]',
    "no list": "5",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
async def test_what_our_page_never_says_ends_the_tab_without_a_trace(
    nonsense: str, caplog: pytest.LogCaptureFixture
) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with served(LISTENS) as it, aiohttp.ClientSession(cookie_jar=jar) as owner:
        async with owner.get(it.door):
            pass
        async with owner.ws_connect(it.ws, origin=it.url) as browser:
            await browser.send_str('["ping", 1]')
            await browser.send_str(nonsense)
            async with asyncio.timeout(DEADLINE_S):
                said = [message.data async for message in browser]
            assert (said, browser.close_code) == (['["pong", 1]'], 1008)
        await until(lambda: not it.dashboard.tabs, "nothing is left of it here")
    assert not [each for each in caplog.records if each.name.startswith("aiohttp")]


@contextmanager
def command() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The real command, and the address that it printed."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "sollol_tui.cli", "dashboard"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


async def test_tabs_end_when_their_parent_is_killed(running: str) -> None:
    with command() as (parent, door):
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as owner:
            url = door.partition("/?")[0]
            async with owner.get(door) as answer:
                assert answer.status == 200
            ws = f"{url}/ws".replace("http", "ws", 1)
            async with owner.ws_connect(ws, origin=url) as browser:
                async with asyncio.timeout(DEADLINE_S):
                    await browser.receive()
                (tab,) = psutil.Process(parent.pid).children()
                parent.kill()
                await until(lambda: not tab.is_running(), "the tab's process ends")


@pytest.mark.skipif(not IS_WANTED, reason="needs chromium and chromedriver")
def test_a_browser_shows_the_job_as_it_goes_on_and_takes_keys(running: str, tmp_path: Path) -> None:
    with command() as (_, door), open_browser(tmp_path / "profile") as browser:
        listen(browser)
        browser.open(door)
        assert "token" not in browser.url
        browser.until(lambda: "tools-621k" in seen(browser), "the job is shown")
        with Store(open_home()) as store:
            store.note_progress(running, {"step": 57, "max_steps": 100, "samples_done": 91,
                                          "samples_total": 160, "loss": 1.625})  # fmt: skip
        browser.until(lambda: "1.625" in seen(browser), "what comes is shown")
        browser.type("2")
        browser.until(lambda: "91 of 160 samples" in seen(browser), "a key opens the job's page")


def listen(browser: Browser) -> None:
    """Keeps what comes to the terminal of the next page: it is drawn on a canvas."""
    script = """
      window.seen = "";
      const Plain = window.WebSocket;
      window.WebSocket = class extends Plain {
        constructor(...of) {
          super(...of);
          this.addEventListener("message", async ({data}) => {
            window.seen += typeof data === "string" ? data : await new Response(data).text();
          });
        }
      };
    """
    command = "Page.addScriptToEvaluateOnNewDocument"
    browser.ask("POST", "goog/cdp/execute", {"cmd": command, "params": {"source": script}})


def seen(browser: Browser) -> str:
    """What came, without what moves the cursor and colours."""
    return str(browser.run("return window.seen.replace(/\\x1b\\[[0-9;?]*[a-zA-Z]/g, '')"))
