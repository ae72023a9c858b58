"""Files of a plan that models.conf has no sha256 for: what they are, from the stamps of an earlier run or from the hub.

The hub answers a HEAD request for a file with its sha256 and size (X-Linked-Etag, X-Linked-Size) before it redirects to
where the bytes are. The deploy writes them into models.lock (claude_local/models_lock.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from claude_local import sources

# Seconds to wait for the hub's answer to one HEAD request, and how many redirects within the hub to follow.
TIMEOUT = 30
REDIRECTS = 3


class UnknownIdentity(Exception):
    """The hub does not say what a file is; the message says why."""


@dataclass(frozen=True)
class Identity:
    """sha256 and bytes of a file."""

    sha256: str
    size: int


def ask(url: str, token: str | None = None) -> Identity:
    """What the hub says of the file at ``url``. Raises UnknownIdentity."""
    host = urlsplit(url).hostname
    headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {token}"} if token else {})}
    for _ in range(REDIRECTS + 1):
        try:
            answer = requests.head(url, headers=headers, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            raise UnknownIdentity(f"{host} does not answer ({type(error).__name__})") from None
        sha256 = answer.headers.get("X-Linked-Etag", "").strip('"')
        size = answer.headers.get("X-Linked-Size", "")
        if answer.status_code < 400 and re.fullmatch(r"[0-9a-f]{64}", sha256) and size.isdigit() and int(size):
            return Identity(sha256, int(size))
        target = urljoin(url, answer.headers.get("Location", ""))
        # A renamed repository redirects within the hub; the token goes nowhere else.
        if not answer.is_redirect or urlsplit(target).netloc != urlsplit(url).netloc:
            break
        url = target
    if answer.status_code >= 400:
        raise UnknownIdentity(f"{host} answers HTTP {answer.status_code}")
    raise UnknownIdentity(
        f"{host} names no sha256 for the file (no X-Linked-Etag; a mirror that leaves it out?): add SHA256 and SIZE"
    )


def from_stamps(path: str, files: Mapping[str, Mapping[str, Any]]) -> Identity | None:
    """What an earlier run found the file at ``path`` to be; None when there was none."""
    stamp = files.get(path) or files.get(os.path.realpath(path)) or {}
    sha256, size = stamp.get("sha256"), stamp.get("size")
    return Identity(sha256, size) if isinstance(sha256, str) and isinstance(size, int) else None


def from_hub(name: str, lines: tuple[str, ...], hub: str, asking: Callable[[str], Identity]) -> Identity:
    """What the first hub among ``lines`` (SOURCES) says of the file ``name``. Raises UnknownIdentity."""
    reasons = []
    for line in lines:
        source = sources.parse(line, name=name, hub=hub)
        if source.kind != "hub" or source.url is None:
            continue
        try:
            return asking(source.url)
        except UnknownIdentity as error:
            reasons.append(f"{line}: {error}")
    raise UnknownIdentity("; ".join(reasons) or "no hub among its SOURCES")
