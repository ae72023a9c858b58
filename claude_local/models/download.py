"""Download one big file into ``NAME.part`` from the hub or from an address, with huggingface_hub.

huggingface_hub brings the requests, redirects, retries, tokens, proxies and the Xet storage with its parallel chunks.
``hf_hub_download`` itself is not used: it drops what it has when it is stopped, and 20 GB should not be downloaded
twice. Its parts can continue: ``http_get`` at a byte, and hf_xet's stream at a byte. Ours is the choice between them,
the patience with a busy hub (at most LONGEST_WAIT), and what is said about a failure.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

# Read by huggingface_hub and hf_xet when they are imported.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import hf_xet
import httpx2
from huggingface_hub import constants, get_hf_file_metadata, set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import HfFileMetadata, http_get
from huggingface_hub.utils import build_hf_headers, disable_progress_bars

from claude_local.models import hub, wheels
from claude_local.models.part import PartFile, SourceFailed
from claude_local.models.progress import MIB, say
from claude_local.models.sources import Source

# Bytes that one read of a transfer collects; a break loses no more than that.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 20
# Seconds for a connection and for an answer to the question what a file is.
TIMEOUT = 10.0
# How often a busy source is asked again without a byte of progress, after 1, 2, 4 ... seconds or as it asks for: a
# source that has given nothing in this run, and one that has (the network may come back).
BUSY_TRIES, RESUMES = 3, 5
FIRST_WAIT = 1.0
# Seconds: the longest wait that a server may ask for (Retry-After). One that asks for more is given up.
LONGEST_WAIT = 120.0
# Seconds without a byte from the Xet storage until the file comes over plain HTTP.
XET_STALL = 180.0
# What may pass: too many requests, and the server's own troubles.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})

Result = TypeVar("Result")


class Busy(Exception):
    """The server cannot answer now. ``wait``: the seconds it asks for, if it does."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def _retry_after(text: str) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as a date; None without a usable one."""
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    with contextlib.suppress(ValueError, TypeError, IndexError):
        return max((parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds(), 0.0)
    return None


def _check_answer(answer: httpx2.Response) -> None:
    """Look at every answer before huggingface_hub does. Raises Busy, SourceFailed."""
    host, status = answer.url.netloc.decode("ascii"), answer.status_code
    if status in PASSING:
        what = "has had too many requests from here" if status == 429 else "cannot serve the file now"
        raise Busy(f"{host} {what} (HTTP {status})", _retry_after(answer.headers.get("Retry-After", "").strip()))
    if status in (200, 206) and "text/html" in answer.headers.get("Content-Type", ""):
        raise SourceFailed(f"{host} sent a web page instead of the file (a login or a proxy's notice?)")


def _client() -> httpx2.Client:
    return httpx2.Client(event_hooks={"response": [_check_answer]}, follow_redirects=True, timeout=None)


def _reason(error: Exception) -> str:
    """Why there was no answer, in words."""
    text = str(error)
    for mark, reason in (
        ("Name or service not known", "its name cannot be resolved"),
        ("name resolution", "its name cannot be resolved"),
        ("nodename nor servname", "its name cannot be resolved"),
        ("No address associated", "its name cannot be resolved"),
        ("Connection refused", "it refuses connections"),
        ("unreachable", "the network cannot reach it"),
        ("certificate", "its certificate is not trusted"),
        ("timed out", "it does not answer"),
        ("without sending a response", "it closes the connection without an answer"),
        ("peer closed", "the transfer ended early"),
        ("reset by peer", "it reset the connection"),
    ):
        if mark in text:
            return reason
    return f"{type(error).__name__}: {text.splitlines()[0][:120]}" if text else type(error).__name__


def _refusal(error: HfHubHTTPError, host: str) -> SourceFailed:
    """What a status that is no success means for the user."""
    status = error.response.status_code
    code = error.response.headers.get("X-Error-Code", "")
    meaning = {
        401: "asks for a token (set HF_TOKEN)",
        403: "refuses access (set HF_TOKEN, or accept the model's licence on the hub)",
        404: "does not have the file",
        410: "no longer has the file",
    }.get(status, "cannot serve the file")
    answer = f"HTTP {status}" + (f", {code}" if re.fullmatch(r"\w{1,40}", code) else "")
    return SourceFailed(f"{host} {meaning} ({answer})")


class _Breaks(logging.Handler):
    """huggingface_hub logs each break that it continues after: one line for the user, without the signed address."""

    def __init__(self, part: PartFile) -> None:
        super().__init__(logging.WARNING)
        self.part = part

    def emit(self, record: logging.LogRecord) -> None:
        """Say that the connection broke, and why."""
        reason = _reason(Exception(record.getMessage()))
        known = "the connection broke" if reason.startswith("Exception") else reason
        say(f"{self.part.label}  {self.part.size // MIB} MiB: {known}; carrying on")


@contextlib.contextmanager
def _breaks_said(part: PartFile) -> Iterator[None]:
    logger = logging.getLogger("huggingface_hub")
    handler, before, propagate = _Breaks(part), logger.handlers[:], logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before, propagate


class Downloader:
    """Downloads from one hub, from addresses and from packages. Remembers which hosts did not answer in this run."""

    def __init__(self, hub_address: str) -> None:
        self.hub = hub_address
        self.unreachable: dict[str, str] = {}
        disable_progress_bars()
        set_client_factory(_client)

    def fetch(self, source: Source, part: PartFile, *, patient: bool) -> None:
        """Complete ``part`` from ``source``. What was downloaded stays in the part when that fails.

        ``patient``: there is no other source, so a slow one is waited for. Raises SourceFailed, DownloadError, OSError.
        """
        url = source.url
        # pip writes a package at once, after a pause; it has time limits of its own.
        part.begin(patient=patient or url is None)
        if url is None:
            wheels.fetch(source.requirements, part)
        elif part.size < part.full_size:
            self._with_patience(lambda: self._transfer(url, part, is_hub=source.kind == "hub"), part.label, part)
            if part.size < part.full_size:
                raise SourceFailed(f"{urlsplit(url).netloc}: the transfer ended early, at {part.size} bytes")

    def identify(self, url: str, label: str) -> tuple[str, int]:
        """The sha256 and size that the hub gives for the file at ``url``. Raises SourceFailed."""
        metadata = self._with_patience(lambda: self._metadata(url), label)
        if not re.fullmatch(r"[0-9a-f]{64}", metadata.etag or "") or not metadata.size:
            raise SourceFailed(
                f"{urlsplit(url).netloc} names no sha256 for the file (no X-Linked-Etag; a mirror that leaves it "
                "out?): add SHA256 and SIZE"
            )
        return cast(str, metadata.etag), metadata.size

    def _with_patience(self, action: Callable[[], Result], label: str, part: PartFile | None = None) -> Result:
        """Repeat ``action`` while the server is busy. Raises SourceFailed when that takes too long."""
        failures = 0
        while True:
            before = part.received if part else 0
            try:
                return action()
            except Busy as busy:
                failures = 1 if part and part.received > before else failures + 1
                wait = max(FIRST_WAIT * 2.0 ** (failures - 1), busy.wait or 0.0)
                if failures > (RESUMES if part and part.received else BUSY_TRIES):
                    raise SourceFailed(str(busy)) from None
                if wait > LONGEST_WAIT:
                    raise SourceFailed(f"{busy}, and asks to come back in {wait / 60:.0f} min") from None
                say(f"{label}  {busy}; asking again in {wait:.0f} s")
                sleep(wait)

    def _headers(self, url: str) -> dict[str, str]:
        """The headers of a request, with the token where it may go. Raises SourceFailed."""
        try:
            token = hub.token_for(url, self.hub)
        except hub.HubError as error:
            raise SourceFailed(str(error)) from None
        return {**build_hf_headers(token=token or False), "Accept-Encoding": "identity"}

    def _metadata(self, url: str, *, began: bool = False) -> HfFileMetadata:
        """What the server says of the file: a HEAD request, redirects within the hub followed.

        ``began``: it gave bytes in this run, so it will be back. Raises Busy, SourceFailed.
        """
        host = urlsplit(url).netloc
        if host in self.unreachable:
            raise SourceFailed(f"{host} was tried before: {self.unreachable[host]}")
        try:
            return get_hf_file_metadata(
                url, timeout=TIMEOUT, endpoint=self.hub, token=False, headers=self._headers(url)
            )
        except HfHubHTTPError as error:
            raise _refusal(error, host) from error
        except httpx2.TooManyRedirects:
            raise SourceFailed(f"{host} redirects in a circle") from None
        except (httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError) as error:
            raise Busy(f"{host}: {_reason(error)}") from None
        except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
            if began:
                raise Busy(f"{host}: {_reason(error)}") from None
            self.unreachable[host] = _reason(error)
            raise SourceFailed(f"{host}: {_reason(error)}") from None

    def _transfer(self, url: str, part: PartFile, *, is_hub: bool) -> None:
        """Download what the part lacks. Raises Busy, SourceFailed, DownloadError, OSError.

        The hub is asked each time, so the signed address that it redirects to is a new one.
        """
        host = urlsplit(url).netloc
        location, headers = url, self._headers(url)
        try:
            metadata = self._metadata(url, began=part.received > 0)
        except SourceFailed as failure:
            # Other servers may know no HEAD; the GET decides.
            if is_hub or not isinstance(failure.__cause__, HfHubHTTPError):
                raise
        else:
            location = metadata.location
            self._compare(metadata, part, host, is_hub=is_hub)
            if (
                metadata.xet_file_data is not None
                and not constants.HF_HUB_DISABLE_XET
                and self._from_xet(metadata, part, headers)
            ):
                return
        if not hub.same_origin(location, url):
            headers.pop("authorization", None)
        try:
            with _breaks_said(part):
                http_get(location, cast(BinaryIO, part), resume_size=part.size, headers=headers)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == 416 and part.size:
                say(f"{part.label}  {host} has fewer bytes than are here, starting again")
                part.rewind()
                raise Busy(f"{host} cannot continue the download") from None
            if status in (401, 403, 410) and not hub.same_origin(location, url):
                raise Busy(f"the address that {host} redirects to is no longer good (HTTP {status})") from None
            raise _refusal(error, host) from None
        except httpx2.TooManyRedirects:
            raise SourceFailed(f"{host} redirects in a circle") from None
        except httpx2.HTTPError as error:
            raise Busy(f"{host}: the transfer broke again and again ({_reason(error)})") from None
        except OSError as error:
            # http_get raises this for a body that is shorter than its header says.
            if error.errno is not None:
                raise
            raise SourceFailed(f"{host}: the transfer ended early, at {part.size} bytes") from None

    @staticmethod
    def _compare(metadata: HfFileMetadata, part: PartFile, host: str, *, is_hub: bool) -> None:
        """Raise SourceFailed when the server has another file, before a byte of it is downloaded."""
        etag = metadata.etag or ""
        if is_hub and re.fullmatch(r"[0-9a-f]{64}", etag) and etag != part.sha256:
            raise SourceFailed(f"{host} has another file: its sha256 is {etag}, expected {part.sha256}")
        if metadata.size and metadata.size != part.full_size:
            raise SourceFailed(f"{host} offers {metadata.size} bytes, the file has {part.full_size}")

    def _from_xet(self, metadata: HfFileMetadata, part: PartFile, headers: dict[str, str]) -> bool:
        """Complete the part from the hub's Xet storage; False when that fails and plain HTTP must do."""
        data = metadata.xet_file_data
        assert data is not None
        if not hub.same_origin(data.refresh_route, self.hub):
            return False
        info = hf_xet.XetFileInfo(data.file_hash, part.full_size)
        try:
            for chunk in _xet_chunks(info, part.size, data.refresh_route, headers):
                part.write(chunk)
        except XetFailed as failure:
            say(f"{part.label}  {part.size // MIB} MiB: the Xet storage: {failure}; carrying on over plain HTTP")
        return part.size == part.full_size


class XetFailed(Exception):
    """The Xet storage did not give the file."""


def _xet_chunks(info: Any, start: int, refresh_url: str, headers: dict[str, str]) -> Iterator[bytes]:
    """The bytes of a file in the Xet storage from ``start`` on. Raises XetFailed.

    A thread reads them: hf_xet waits for the network in a way that no signal interrupts.
    """
    chunks: queue.Queue[bytes | Exception | None] = queue.Queue(maxsize=2)
    session = hf_xet.XetSession()

    def read() -> None:
        try:
            group = session.new_download_stream_group(token_refresh_url=refresh_url, token_refresh_headers=headers)
            for chunk in group.download_stream(info, start=start):
                chunks.put(chunk)
            chunks.put(None)
        except Exception as error:
            chunks.put(error)

    threading.Thread(target=read, name="xet", daemon=True).start()
    try:
        while True:
            try:
                chunk = chunks.get(timeout=XET_STALL)
            except queue.Empty:
                raise XetFailed(f"nothing came for {XET_STALL:.0f} s") from None
            if chunk is None:
                return
            if isinstance(chunk, Exception):
                raise XetFailed(str(chunk).splitlines()[0][:200] if str(chunk) else type(chunk).__name__)
            yield chunk
    finally:
        session.sigint_abort()
