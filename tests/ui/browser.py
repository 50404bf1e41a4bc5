"""A headless Chromium in a test, by the WebDriver protocol that Debian's chromedriver speaks."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DRIVER: Final = shutil.which("chromedriver")
CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
# Where every test has to run, one that finds no browser fails.
IS_WANTED: Final = bool(DRIVER and CHROMIUM) or os.environ.get("SOLLOL_REQUIRE_CLUSTER") == "1"
DEADLINE_S = 60.0
ENTER: Final = "\ue007"


@dataclass(frozen=True, slots=True)
class Browser:
    """One window of a browser; `session` is where its driver takes commands."""

    session: str

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return _ask(method, f"{self.session}/{path}", body)

    def open(self, url: str) -> None:
        self.ask("POST", "url", {"url": url})

    def run(self, script: str) -> Any:
        """What a script of the page returns."""
        return self.ask("POST", "execute/sync", {"script": script, "args": []})

    def type(self, keys: str) -> None:
        """Presses keys wherever the page has its focus."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.ask("POST", "actions", {"actions": [{"type": "key", "id": "k", "actions": strokes}]})

    @property
    def url(self) -> str:
        return str(self.ask("GET", "url"))

    def picture(self) -> bytes:
        return base64.b64decode(self.ask("GET", "screenshot"))

    def until(self, what: Callable[[], Any], why: str) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while not (value := what()):
            assert time.monotonic() < deadline, f"{why}: not within {DEADLINE_S:.0f} s"
            time.sleep(0.05)
        return value


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A window of its own, with nothing of the user's in it."""
    assert DRIVER is not None, "chromedriver is missing: apt install chromium-driver"
    assert CHROMIUM is not None, "chromium is missing: apt install chromium"
    with subprocess.Popen(
        [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            said = next(line for line in driver.stdout if "started successfully on port" in line)
            root = f"http://127.0.0.1:{said.rsplit(' ', 1)[1].strip().rstrip('.')}/session"
            options = {
                "binary": CHROMIUM,
                "args": ["--headless=new", "--no-sandbox", "--disable-gpu",
                         "--disable-dev-shm-usage", "--window-size=1200,800",
                         f"--user-data-dir={profile}"],
            }  # fmt: skip
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
            made = Browser(f"{root}/{_ask('POST', root, wanted)['sessionId']}")
            try:
                yield made
            finally:
                _ask("DELETE", made.session, None)
        finally:
            driver.terminate()


def _ask(method: str, url: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=DEADLINE_S) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None
