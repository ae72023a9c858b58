"""The management API as the dashboard asks it: asynchronous, and with one exception."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import httpx2

# Seconds: for a connection, for an answer that needs no model, between two events (the API sends a comment every 15),
# and for a switch to its end (it drains for 120 and loads for 600 at most, and may load the former model again).
CONNECT, QUICK, SILENCE, CHANGE = 3.0, 10.0, 40.0, 1500.0


class ManagerError(Exception):
    """A request that failed, in one line. ``status``: of the answer, None when there was none; ``told``: its body."""

    def __init__(self, message: str, status: int | None = None, told: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.status = status
        self.told = told


class Manager:
    """The management API on ``port`` of 127.0.0.1. ``token``: for requests that change something."""

    def __init__(self, port: int, token: str) -> None:
        self._http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {token}", "User-Agent": "llama-local dashboard"},
            timeout=httpx2.Timeout(QUICK, connect=CONNECT),
            trust_env=False,
        )

    async def get(self, path: str) -> Any:
        """The JSON of an answer, or its text. Raises ManagerError."""
        return await self._ask("GET", path)

    async def post(self, path: str, body: Any) -> Any:
        """The JSON of an answer to a change, which can take long. Raises ManagerError."""
        return await self._ask("POST", path, json=body, timeout=httpx2.Timeout(CHANGE, connect=CONNECT))

    async def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = await self._http.request(method, path, **more)
            json = answer.headers.get("content-type", "").startswith("application/json")
            data = answer.json() if json else answer.text
        except (httpx2.HTTPError, ValueError) as error:
            raise ManagerError(_reason(error)) from None
        if answer.status_code != 200:
            told = data if isinstance(data, dict) else {}
            message = str(told.get("error") or f"{path}: HTTP {answer.status_code}")
            if answer.status_code == 404 and message == "Not Found":
                message = "the management API is older than this dashboard: ./provision"
            raise ManagerError(f"{message}: {told['fix']}" if "fix" in told else message, answer.status_code, told)
        return data

    async def events(self) -> AsyncIterator[tuple[str, Any]]:
        """GET /events: name and data of each, without end. Raises ManagerError when the connection ends."""
        timeout = httpx2.Timeout(SILENCE, connect=CONNECT)
        try:
            async with self._http.stream("GET", "/events", timeout=timeout) as answer:
                if answer.status_code != 200:
                    raise ManagerError(f"/events: HTTP {answer.status_code}", answer.status_code)
                async for event in httpx2.EventSource(answer):
                    yield event.event, event.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise ManagerError(_reason(error)) from None
        raise ManagerError("the management API has ended the connection")

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.ConnectError):
        return "nothing listens on the port of the management API"
    if isinstance(error, httpx2.TimeoutException):
        return "the management API does not answer in time"
    return f"the connection to the management API broke: {error or type(error).__name__}"
