"""The real llama-server in router mode, with two profiles, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from claude_local.server.client import LlamaClient, ServerError

START_SECONDS, ANSWER_SECONDS = 60.0, 300.0
MODEL, OTHER = "model", "other"


class Router:
    """llama-server in router mode with the sections MODEL and OTHER; a context manager, which can be entered again.

    ``flags`` are those of the sections, ``other`` the model of OTHER (None: the same). Raises RuntimeError with the end
    of the log when it does not start.
    """

    def __init__(
        self,
        binary: Path,
        model: Path,
        folder: Path,
        template: Path,
        flags: Mapping[str, str],
        other: Path | None = None,
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.client = LlamaClient(f"http://127.0.0.1:{self.port}")
        self.folder = folder
        self.log = folder / "server.log"
        self._presets = folder / "presets.ini"
        common = {"model": str(model), "chat-template-file": str(template), "jinja": "true", "ctx-size": "32768"}
        common |= {"parallel": "1", "cache-ram": "512", "threads": "1", **flags}
        lines = ["version = 1"]
        for section in (MODEL, OTHER):
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in common.items())]
            common |= {"model": str(other or model)}
            common |= {"cache-disk": f"{folder}/none"} if "cache-disk" in common else {}
        self._presets.write_text("\n".join(lines) + "\n")
        self._command = [
            str(binary), "--models-preset", str(self._presets), "--models-max", "1", "--host", "127.0.0.1",
            "--port", str(self.port), "--offline", "--no-ui",
        ]  # fmt: skip

    def __enter__(self) -> Router:
        environment = os.environ | {"LD_LIBRARY_PATH": str(Path(self._command[0]).parent)}
        with self.log.open("a") as sink:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.client.router()
                return self
            except ServerError:
                time.sleep(0.05)
        self.end(signal.SIGKILL)
        raise RuntimeError(f"llama-server did not start: {self.log.read_text()[-2000:]}")

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait for the end. SIGKILL ends the models' processes as well."""
        if number == signal.SIGKILL:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """As ``docker restart`` does it, or with another signal."""
        self.end(number)
        self.__enter__()

    def switch_there_and_back(self) -> None:
        """Another model answers in between."""
        ask = {"model": OTHER, "max_tokens": 1, "temperature": 0, "messages": [{"role": "user", "content": "hello"}]}
        self.client.json("POST", "/v1/messages", ask, timeout=ANSWER_SECONDS)
