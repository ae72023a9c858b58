"""Files of a plan that models.conf has no sha256 for: what the hub says that they are.

The hub answers a HEAD request for a file with its sha256 and size (X-Linked-Etag, X-Linked-Size) before it redirects to
where the bytes are. The deploy writes them into models.lock (claude_local/models/lock.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests

from claude_local.models import sources
from claude_local.models.part import SourceFailed

# How many redirects within the hub to follow.
REDIRECTS = 3
# One HEAD request: fetching.Fetcher.head, with its tries and its token. Raises SourceFailed.
Head = Callable[[str], requests.Response]


class UnknownIdentity(Exception):
    """The hub does not say what a file is; the message says why."""


@dataclass(frozen=True)
class Identity:
    """sha256 and bytes of a file."""

    sha256: str
    size: int


def ask(url: str, head: Head) -> Identity:
    """What the hub says of the file at ``url``. Raises UnknownIdentity."""
    hub = urlsplit(url)
    for _ in range(REDIRECTS + 1):
        try:
            answer = head(url)
        except SourceFailed as error:
            raise UnknownIdentity(str(error)) from None
        sha256 = answer.headers.get("X-Linked-Etag", "").strip('"')
        size = answer.headers.get("X-Linked-Size", "")
        if re.fullmatch(r"[0-9a-f]{64}", sha256) and size.isdigit() and int(size):
            return Identity(sha256, int(size))
        url = urljoin(url, answer.headers.get("Location", ""))
        # A renamed repository redirects within the hub. Nobody else is asked, nor the hub without its encryption.
        if not answer.is_redirect or (urlsplit(url).scheme, urlsplit(url).netloc) != (hub.scheme, hub.netloc):
            break
    raise UnknownIdentity(
        f"{hub.netloc} names no sha256 for the file (no X-Linked-Etag; a mirror that leaves it out?): add SHA256 and SIZE"
    )


def from_hub(name: str, lines: tuple[str, ...], hub: str, head: Head) -> Identity:
    """What the first hub among ``lines`` (SOURCES) says of the file ``name``. Raises UnknownIdentity."""
    reasons = []
    for line in lines:
        source = sources.parse(line, name=name, hub=hub)
        if source.kind != "hub" or source.url is None:
            continue
        try:
            return ask(source.url, head)
        except UnknownIdentity as error:
            reasons.append(f"{line}: {error}")
    raise UnknownIdentity("; ".join(reasons) or "no hub among its SOURCES")
