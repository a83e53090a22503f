"""A headless Chromium for tests, spoken to over pipes (Chrome DevTools Protocol), so that no port is opened."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_SECONDS = 120.0
"""Longest wait for an answer; test machines may be busy."""


def find_browser() -> str | None:
    """Path of an installed Chromium, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


@dataclass
class Page:
    """One open page and what it has said."""

    browser: Browser
    session: str
    errors: list[str] = field(default_factory=list)
    """Exceptions, console errors and failed loads."""
    addresses: list[str] = field(default_factory=list)
    """Everything that was asked for, without data: and blob: addresses."""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        return self.browser.call(method, self.session, **parameters)

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of a given size and theme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.browser.wait("Page.loadEventFired", self.session)

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are awaited.

        Raises:
            AssertionError: it threw.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True,
                           userGesture=True)  # fmt: skip
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """PNG of the window, or of the whole page."""
        answer = self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._area(whole)
        )
        path.write_bytes(base64.b64decode(answer["data"]))

    def _area(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def hear(self, message: dict[str, Any]) -> None:
        """Keep what an event says."""
        method, said = message["method"], message["params"]
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"].get("exception", said)))
        elif method == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
            self.errors.append(str(said["args"]))
        elif method == "Network.requestWillBeSent":
            address = said["request"]["url"]
            if not address.startswith(("data:", "blob:")):
                self.addresses.append(address)


class Browser:
    """A running browser; see ``running_browser``."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._number, self._rest = 0, b""
        self._pages: dict[str, Page] = {}
        self._seen: list[dict[str, Any]] = []

    def page(self, downloads: Path | None = None) -> Page:
        """A new page that is listened to; files it saves go to a folder."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        if downloads is not None:
            self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads.resolve()))
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command; returns its result.

        Raises:
            AssertionError: the browser refused it or does not answer.
        """
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def wait(self, event: str, session: str) -> None:
        """Wait for an event of a page that has come or is to come."""
        while True:
            for place, message in enumerate(self._seen):
                if message["method"] == event and message.get("sessionId") == session:
                    del self._seen[: place + 1]
                    return
            self._next()

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has gone"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._seen.append(message)
            if message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].hear(message)
        return message


@contextlib.contextmanager
def running_browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile folder of its own, and end it."""
    child_in, to_browser = os.pipe()
    from_browser, child_out = os.pipe()
    # The browser reads from file 3 and writes to file 4; the shell puts our pipes there.
    command = ["bash", "-c", f'exec "$@" 3<&{child_in} 4>&{child_out}', "bash", program, *FLAGS]
    with open(profile / "stderr.txt", "wb") as log:
        process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(child_in, child_out), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    for handle in (child_in, child_out):
        os.close(handle)
    browser = Browser(to_browser, from_browser)
    try:
        yield browser
        with contextlib.suppress(AssertionError, OSError):
            browser.call("Browser.close")
    finally:
        for handle in (to_browser, from_browser):
            os.close(handle)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
