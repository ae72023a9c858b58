"""A headless Chromium, driven over its debugging protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import connect


class Browser:
    """One page of a Chromium with a profile of its own; a context manager.

    ``asked``: the host and port of every request over the network so far.
    """

    def __init__(self, program: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="browser-")
        profile = Path(self._folder.name)
        # fmt: off
        self._process = subprocess.Popen(
            [
                program, "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
                f"--user-data-dir={profile}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        # fmt: on
        self._numbers = itertools.count(1)
        self.asked: set[str] = set()
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(connect(self._page(profile / "DevToolsActivePort"), max_size=None))
        for domain in ("Page", "Runtime", "Network"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._process.terminate()
        self._process.wait(timeout=60)
        self._folder.cleanup()

    def _page(self, port_file: Path) -> str:
        """The address of the page's debugger."""
        until = time.monotonic() + 90
        while not port_file.exists() or "\n" not in port_file.read_text():
            assert self._process.poll() is None and time.monotonic() < until, "Chromium does not start"
            time.sleep(0.1)
        port, path = port_file.read_text().split("\n")[:2]
        with connect(f"ws://127.0.0.1:{port}{path}") as browser:
            browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(browser.recv(timeout=60))["result"]["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        return f"ws://127.0.0.1:{port}/devtools/page/{page}"

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("method") == "Network.requestWillBeSent":
                address = urlsplit(message["params"]["request"]["url"])
                if address.scheme not in ("data", "blob"):
                    self.asked.add(address.netloc)
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result

    def open(self, url: str) -> None:
        """Load a page in place of the current one."""
        self._call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait(self, script: str, seconds: float = 90) -> Any:
        """The expression's value, as soon as it is true."""
        until = time.monotonic() + seconds
        while not (value := self.value(script)):
            assert time.monotonic() < until, f"{script}\nthe page shows: {self.value('document.body.innerText')}"
            time.sleep(0.1)
        return value

    def click(self, text: str) -> None:
        """Click the button that has this text."""
        button = f"[...document.querySelectorAll('button')].find(each => each.innerText.includes({json.dumps(text)}))"
        self.wait(f"!!{button} && ({button}.click(), true)")

    def type(self, selector: str, text: str) -> None:
        """Type into the field that the selector finds, then press Enter."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.wait(f"!!{field} && ({field}.focus(), document.activeElement === {field})")
        self._call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )
