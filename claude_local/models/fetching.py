"""Fetch one big file of known sha256 and size into ``NAME.part``, from an address or from Python packages.

What is on disk already is kept: a broken transfer goes on where it stopped, in this run or the next. Nothing here gives
a file its final name; that is for :mod:`claude_local.models.placement`, after the hash was checked. docs/decisions/0011
says what happens at each fault.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from claude_local.models import gguf, hub, wheels
from claude_local.models.part import Part, SourceFailed
from claude_local.models.progress import MIB, Progress, say
from claude_local.models.sources import Source

# One read takes what the kernel has, up to this many bytes: big enough for the disk, and nothing is lost at a break.
NETWORK_BLOCK = 1 << 20

# Seconds. A source that does not accept a connection is given up fast: behind a closed network it never will.
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 30
# A transfer is tried again this often without a byte of progress, after 1, 2, 4, 8, 16 seconds; a server that was busy
# from the start, or closed the connection, only BUSY_TRIES times, and one that does not answer once.
RESUMES = 5
BUSY_TRIES = 3
FIRST_WAIT = 1.0
# Seconds: the longest wait that a server may ask for (Retry-After); one that asks for more is given up.
LONGEST_WAIT = 120.0
# Bytes a second over so many seconds: below it another source is tried, while there is one.
SLOW_RATE = 64 * 1024
SLOW_SPAN = 60.0
# What may pass: too many requests, and the server's own troubles.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Postponed(SourceFailed):
    """This source can go on, but at a price; the others come first."""


class Changed(Postponed):
    """The source has other bytes now than those that were fetched from it: it could only start from nothing."""


class TooSlow(Postponed):
    """The source gives the file, at a rate that another one surely beats."""


class Busy(requests.RequestException):
    """The server cannot answer now. ``wait``: seconds that it asks for, if it does."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, Busy):
        return text
    for mark, reason in (
        ("Name or service not known", "its name cannot be resolved"),
        ("name resolution", "its name cannot be resolved"),
        ("nodename nor servname", "its name cannot be resolved"),
        ("Connection refused", "it refuses connections"),
        ("unreachable", "the network cannot reach it"),
        ("certificate", "its certificate is not trusted"),
        ("Tunnel connection failed", "the proxy does not let us through"),
        ("timed out", "it does not answer"),
        ("aborted", "it closes the connection without an answer"),
        ("ended early", "the transfer ended early"),
        ("IncompleteRead", "the transfer ended early"),
    ):
        if mark in text:
            return reason
    return type(error).__name__


def _tries(error: Exception) -> int:
    """How often a source is asked again that has given nothing yet."""
    if isinstance(error, Busy) or "aborted" in str(error):
        return BUSY_TRIES
    return 1 if isinstance(error, requests.ReadTimeout) else 0


def _wait(error: Exception, failures: int, host: str) -> float:
    """Seconds until the next try. Raises SourceFailed when the server asks for too many."""
    wait = FIRST_WAIT * 2.0 ** (failures - 1)
    if isinstance(error, Busy) and error.wait is not None:
        wait = max(error.wait, wait)
        if wait > LONGEST_WAIT:
            raise SourceFailed(f"{host} {error}, and asks to come back in {wait / 60:.0f} min") from None
    return wait


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None without a usable one."""
    text = (header or "").strip()
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return max((when - datetime.now(timezone.utc)).total_seconds(), 0.0)


class _HubToken(requests.auth.AuthBase):
    """Sets the token on the first request only: requests drops the header when a redirect leads to another host. As
    an ``auth`` it also keeps ~/.netrc from putting something else in its place."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class _Pace:
    """Whether a transfer is too slow, looked at once every SLOW_SPAN seconds."""

    def __init__(self, size: int) -> None:
        self.since = time.monotonic()
        self.size = size

    def check(self, size: int, host: str) -> None:
        """Raises TooSlow."""
        now = time.monotonic()
        if now - self.since < SLOW_SPAN:
            return
        rate = (size - self.size) / (now - self.since)
        if rate < SLOW_RATE:
            raise TooSlow(f"{host} gives {rate / 1024:.0f} KiB/s")
        self.since, self.size = now, size


class Fetcher:
    """Fetches from addresses and packages, and remembers which hosts did not answer in this run. ``address`` is the
    hub's (:func:`claude_local.models.hub.address`): only it gets the user's token."""

    def __init__(self, address: str) -> None:
        self.hub = address
        self.dead: dict[str, str] = {}
        self.session = requests.Session()
        # Only connections are tried again here; answers and transfers by _address, because they resume and are told.
        retry = Retry(
            total=12,
            connect=1,
            read=False,
            status=0,
            redirect=10,
            backoff_factor=0.5,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))

    def fetch(self, source: Source, part: Part, *, last: bool = False) -> None:
        """Complete ``part`` from ``source``; the part is kept for others when that fails.

        Raises SourceFailed, FetchError, and Postponed when another source should be asked first; with ``last`` there is
        no other, so a slow one is taken as it is and a changed one from its first byte.
        """
        if source.url is None:
            wheels.fetch(source.requirements, part)
            return
        try:
            self._address(source.url, part, fresh=False, patient=last)
        except Changed as changed:
            if not last:
                raise
            say(f"{part.label}  {changed}, starting again")
            self._address(source.url, part, fresh=True, patient=True)

    def head(self, url: str, label: str) -> requests.Response:
        """The answer to a HEAD request, its redirect not followed; what may pass is asked again, as in a transfer.

        Raises SourceFailed, for a refusal too.
        """
        host = urlsplit(url).netloc
        if host in self.dead:
            raise SourceFailed(f"{host} was tried before: {self.dead[host]}")
        failures = 0
        while True:
            try:
                answer = self.session.head(
                    url,
                    headers={"Accept-Encoding": "identity"},
                    auth=self._auth(url),
                    timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                    allow_redirects=False,
                )
                if answer.status_code >= 400:
                    self._check_status(answer, host, 0)
                return answer
            except requests.RequestException as error:
                failures += 1
                reason = _reason(error)
                if failures > _tries(error):
                    if not isinstance(error, Busy):
                        self.dead[host] = reason
                    raise SourceFailed(f"{host}: {reason}") from None
                wait = _wait(error, failures, host)
                say(f"{label}  {host}: {reason}; asking again in {wait:.0f} s")
                sleep(wait)

    # --- one address, until it is complete ----------------------------------------------------------------------------
    def _address(self, url: str, part: Part, *, fresh: bool, patient: bool) -> None:
        host = urlsplit(url).netloc
        if host in self.dead:
            raise SourceFailed(f"{host} was tried before: {self.dead[host]}")
        progress = Progress(part.label, part.wanted, part.size)
        pace = None if patient else _Pace(part.size)
        failures = 0
        began = False
        while part.size < part.wanted or fresh:
            before = part.received
            try:
                self._transfer(url, part, progress, pace, fresh=fresh)
                if part.size < part.wanted:
                    raise requests.ConnectionError("the transfer ended early")
                return
            except requests.TooManyRedirects:
                raise SourceFailed(f"{host} redirects in a circle") from None
            except requests.RequestException as error:
                moved = part.received > before
                fresh = fresh and not moved
                began = began or moved or isinstance(error, _Answered)
                failures = 1 if moved else failures + 1
                reason = _reason(error)
                limit = RESUMES if began else _tries(error)
                if failures > limit and not began and not isinstance(error, Busy):
                    self.dead[host] = reason
                    raise SourceFailed(f"{host}: {reason}") from None
                if failures > limit:
                    raise SourceFailed(f"{host}: the transfer broke {failures} times ({reason})") from None
                wait = _wait(error, failures, host)
                say(f"{part.label}  {part.size // MIB} MiB: {host}: {reason}; carrying on in {wait:.0f} s")
                sleep(wait)

    # --- one request --------------------------------------------------------------------------------------------------
    def _get(self, url: str, span: str | None) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if span:
            headers["Range"] = f"bytes={span}"
        return self.session.get(
            url, headers=headers, auth=self._auth(url), stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        )

    def _auth(self, url: str) -> _HubToken | None:
        """The token for the hub, over https or loopback only; None for every other host."""
        try:
            found = hub.token_for(url, self.hub)
        except hub.HubError as error:
            raise SourceFailed(str(error)) from None
        return _HubToken(found) if found else None

    def _transfer(self, url: str, part: Part, progress: Progress, pace: _Pace | None, *, fresh: bool) -> None:
        """One request for what is missing (``fresh``: for everything). The redirect of a hub is followed anew each time,
        so that a signed address that has expired does no harm."""
        start = 0 if fresh else part.size
        host = urlsplit(url).netloc
        with self._get(url, f"{start}-" if start else None) as answer:
            self._check_status(answer, host, start)
            if answer.status_code == 416:
                raise Changed(f"{host} has fewer bytes than the {start} that are here")
            self._check_identity(answer, host, part)
            ranged = answer.status_code == 206
            if ranged:
                offered = self._offered_range(host, answer.headers.get("Content-Range", ""), start)
            else:
                length = answer.headers.get("Content-Length", "")
                offered = int(length) if length.isdigit() else None
            if offered is not None and offered != part.wanted:
                raise SourceFailed(f"{host} offers {offered} bytes, the file has {part.wanted}")
            etag = answer.headers.get("ETag")
            known = part.known_etag(url)
            if start and ranged and etag and known and etag != known and not self._same_ends(url, part):
                raise Changed(f"{host} has another version of the file than the one that was begun")
            blocks = self._blocks(answer)
            if start and not ranged:
                # The server ignores Range. Nothing is thrown away: what is here already is read past, and compared.
                say(f"{part.label}  {host} cannot resume: reading past the {start // MIB} MiB that are here")
                blocks = self._past(blocks, part, start, host, pace)
            noted = False
            for block in blocks:
                if fresh:
                    if not gguf.MAGIC.startswith(block[:4]):
                        raise SourceFailed(f"{host} sent no GGUF file (it starts with {block[:15]!r})")
                    part.rewind()
                    fresh = False
                if not noted:
                    part.came_from(url, etag)
                    noted = True
                part.append(block)
                progress.update(part.size)
                if pace is not None:
                    pace.check(part.size, host)

    @staticmethod
    def _blocks(answer: requests.Response) -> Iterator[bytes]:
        """What comes, as it comes. Raises requests.ConnectionError when it ends by a fault."""
        try:
            while block := answer.raw.read1(NETWORK_BLOCK, decode_content=False):
                yield block
        except urllib3.exceptions.HTTPError as error:
            raise _Answered(str(error)) from None

    @staticmethod
    def _past(blocks: Iterator[bytes], part: Part, start: int, host: str, pace: _Pace | None) -> Iterator[bytes]:
        """The bytes after the first ``start`` ones, which must be those of the part. Raises Changed, SourceFailed."""
        position = 0
        progress = Progress(f"reading past {part.label}", start)
        for block in blocks:
            if position == 0 and not gguf.MAGIC.startswith(block[:4]):
                raise SourceFailed(f"{host} sent no GGUF file (it starts with {block[:15]!r})")
            old = memoryview(block)[: max(start - position, 0)]
            if old and not part.same(old, position):
                raise Changed(f"{host} has other bytes than those that are here")
            position += len(block)
            progress.update(position)
            if pace is not None:
                pace.check(part.size + position, host)
            if len(old) < len(block):
                yield block[len(old) :]

    def _same_ends(self, url: str, part: Part) -> bool:
        """Whether the first and the last bytes of the part are still those of the address: mirrors of one file may name
        it differently, and a new version differs in its header at least."""
        size = min(part.size, 1 << 16)
        for start in (0, part.size - size):
            with self._get(url, f"{start}-{start + size - 1}") as answer:
                if answer.status_code != 206:
                    return False
                position = start
                for block in self._blocks(answer):
                    block = block[: start + size - position]
                    if not part.same(block, position):
                        return False
                    position += len(block)
                    if position >= start + size:
                        break
                if position < start + size:
                    return False
        return True

    # --- what an answer is worth --------------------------------------------------------------------------------------
    @staticmethod
    def _check_status(answer: requests.Response, host: str, start: int) -> None:
        """Raises Busy for what may pass, SourceFailed for a refusal and for what is not the file."""
        status = answer.status_code
        code = answer.headers.get("X-Error-Code", "")
        told = f"HTTP {status}" + (f", {code}" if re.fullmatch(r"\w{1,40}", code) else "")
        if status in PASSING:
            meaning = "has had too many requests from here" if status == 429 else "cannot serve the file now"
            raise Busy(f"{meaning} ({told})", retry_after(answer.headers.get("Retry-After")))
        if status in (401, 403, 410) and answer.history:
            # The host that the hub sent us to: its signed address has expired, the hub makes a new one.
            raise Busy(f"the address that it redirects to is no longer good ({told})")
        if status == 416 and start:
            return
        if status not in (200, 206):
            meaning = {
                401: "asks for a token (set HF_TOKEN)",
                403: "refuses access (set HF_TOKEN, or accept the model's licence on the hub)",
                404: "does not have the file",
                410: "no longer has the file",
            }.get(status, "cannot serve the file")
            raise SourceFailed(f"{host} {meaning} ({told})")
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise SourceFailed(f"{host} sent a web page instead of the file (a login or a proxy's notice?)")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceFailed(f"{host} sent the file compressed")

    @staticmethod
    def _check_identity(answer: requests.Response, host: str, part: Part) -> None:
        """The hub names the sha256 of a big file in the answer that redirects (X-Linked-Etag): another one is refused
        before a byte of it is fetched."""
        for step in (*answer.history, answer):
            name = step.headers.get("X-Linked-Etag", "").strip('"').lower()
            if re.fullmatch(r"[0-9a-f]{64}", name) and name != part.sha256:
                raise SourceFailed(f"{host} has another file: its sha256 is {name}, expected {part.sha256}")

    @staticmethod
    def _offered_range(host: str, header: str, start: int) -> int | None:
        """The whole file's length by ``Content-Range: bytes START-END/TOTAL``; None when the server hides it."""
        unit, _, rest = header.partition(" ")
        span, _, total = rest.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(start):
            raise SourceFailed(f"{host} answered for other bytes than asked ({header!r})")
        return int(total) if total.isdigit() else None


class _Answered(requests.ConnectionError):
    """The connection broke after the server had answered."""
