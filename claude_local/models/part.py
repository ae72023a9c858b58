"""``NAME.part``: what was fetched of one big file so far, with its sha256 computed while it grows.

The sha256 is computed by a thread that reads behind the writer, from the page cache: a download and its hash use two
cores (OpenSSL's sha256 lets go of Python's lock above 2047 bytes), and 40 GB that an earlier run left are hashed while
the rest comes in. ``NAME.part.origin`` notes for which sha256 the bytes are and where they came from.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

from claude_local.models import gguf
from claude_local.models.progress import MIB, Progress, say

BLOCK = 1 << 20
# What stands beside NAME.part, and goes with it.
ORIGIN, PIECES, WHEELS = ".origin", ".pieces", ".wheels"


class SourceFailed(Exception):
    """This source cannot give the file; the next one may. The message is a reason for people."""


class FetchError(Exception):
    """No source can help: the disk is full, for example."""


class RunningHash:
    """The sha256 of a file that grows, computed in a thread behind the writer. ``descriptor`` must stay open."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.done = 0
        self._descriptor = descriptor
        self._size = size
        self._last = self._closed = False
        self._error: OSError | None = None
        self._sha256 = hashlib.sha256()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        view = memoryview(bytearray(BLOCK))
        try:
            while True:
                with self._changed:
                    while not (self._closed or self._last or self._size - self.done >= BLOCK):
                        self._changed.wait()
                    if self._closed or (self._last and self.done == self._size):
                        return
                    goal = self._size
                while self.done < goal and not self._closed:
                    count = os.preadv(self._descriptor, [view[: min(BLOCK, goal - self.done)]], self.done)
                    if count == 0:
                        raise OSError(errno.EIO, "the file became shorter while it was read")
                    self._sha256.update(view[:count])
                    self.done += count
        except OSError as error:
            self._error = error

    def grow(self, size: int) -> None:
        """There are ``size`` bytes now."""
        with self._changed:
            self._size = size
            if size - self.done >= BLOCK:
                self._changed.notify()

    def hexdigest(self, progress: Progress) -> str:
        """Wait until everything is hashed. Raises OSError. Nothing may grow after this."""
        with self._changed:
            self._last = True
            self._changed.notify()
        while self._thread.is_alive():
            self._thread.join(0.5)
            progress.update(self.done)
        if self._error is not None:
            raise self._error
        return self._sha256.hexdigest()

    def close(self) -> None:
        """Stop, after the block that is being hashed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()


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
    """``NAME.part``, open for writing at its end. ``size`` counts the bytes that are there, ``wanted`` all of them.

    Bytes that were fetched for another sha256 (the pin in models.conf moved on) are dropped at once.
    """

    def __init__(self, path: str, wanted: int, label: str, sha256: str) -> None:
        self.path = path
        self.wanted = wanted
        self.label = label
        self.sha256 = sha256
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.file = os.fdopen(descriptor, "r+b", buffering=0)
        self.size = os.fstat(descriptor).st_size
        self._digest = RunningHash(descriptor, self.size)
        self.origin = self._read_origin()
        if self.size and self.origin.get("sha256", sha256) != sha256:
            say(f"{label}  {self.size // MIB} MiB of another version are here from an earlier run, dropped")
            self.rewind()
        elif self.size > wanted:
            self.rewind()
        elif self.size:
            say(f"{label}  {self.size // MIB} MiB are here from an earlier run")
        self.file.seek(self.size)
        # Bytes that came in this run; and whether others were there when the present source began, so that a wrong
        # hash may be theirs.
        self.received = 0
        self.resumed = self.size > 0

    # --- where the bytes came from ------------------------------------------------------------------------------------
    def _read_origin(self) -> dict[str, str]:
        try:
            record = json.loads(Path(self.path + ORIGIN).read_text(encoding="utf-8"))
            return {str(key): str(value) for key, value in record.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def came_from(self, url: str, etag: str | None) -> None:
        """Note the address that gives the bytes from here on, and the name (ETag) that it has for this version."""
        origin = {"sha256": self.sha256, "url": url, **({"etag": etag} if etag else {})}
        if origin != self.origin:
            self.origin = origin
            self._note(ORIGIN, json.dumps(origin))

    def known_etag(self, url: str) -> str | None:
        """The ETag that ``url`` had when bytes were fetched from it last; None when they are from elsewhere."""
        return self.origin.get("etag") if self.origin.get("url") == url else None

    def _note(self, suffix: str, text: str) -> None:
        temporary = f"{self.path}{suffix}.new"
        try:
            Path(temporary).write_text(text, encoding="utf-8")
            os.replace(temporary, self.path + suffix)
        except OSError as error:
            Path(temporary).unlink(missing_ok=True)
            raise self.explained(error) from None

    # --- bytes --------------------------------------------------------------------------------------------------------
    def cut(self, size: int) -> None:
        """Forget everything after ``size`` bytes."""
        if size == self.size:
            return
        self._digest.close()
        self.file.truncate(size)
        self.size = size
        self.file.seek(size)
        self._digest = RunningHash(self.file.fileno(), size)

    def rewind(self) -> None:
        """Start from nothing."""
        self._digest.close()
        self.file.truncate(0)
        self.file.seek(0)
        self.size = 0
        self.resumed = False
        self._digest = RunningHash(self.file.fileno(), 0)
        Path(self.path + PIECES).unlink(missing_ok=True)

    def same(self, data: bytes | memoryview, position: int) -> bool:
        """Whether these bytes are what the part has at ``position``."""
        return os.pread(self.file.fileno(), len(data), position) == data

    def append(self, data: bytes) -> None:
        """Add bytes. Raises SourceFailed when they are no GGUF or too many, FetchError when the disk is full."""
        if self.size < 4:
            head = os.pread(self.file.fileno(), self.size, 0) + data[:15]
            if not gguf.MAGIC.startswith(head[:4]):
                raise SourceFailed(f"sent no GGUF file (it starts with {head[:15]!r})")
        if self.size + len(data) > self.wanted:
            raise SourceFailed(f"sent more than the {self.wanted} bytes that the file has")
        view = memoryview(data)
        try:
            while view:
                written = self.file.write(view)
                self.size += written
                self.received += written
                view = view[written:]
        except OSError as error:
            raise self.explained(error) from None
        self._digest.grow(self.size)

    def explained(self, error: OSError) -> Exception:
        """A full disk as a FetchError that says what is needed; any other error as it is."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        folder = os.path.dirname(self.path)
        free = shutil.disk_usage(folder).free
        why = "is full" if error.errno == errno.ENOSPC else "has no room left for this user (quota)"
        return FetchError(
            f"the disk of {folder} {why}: {self.label} needs {-(-(self.wanted - self.size) // MIB)} MiB more, "
            f"{free // MIB} MiB are free. The {self.size // MIB} MiB that were fetched are kept and the next run goes on "
            "from there: make room, or set model_dir to a bigger disk"
        )

    def hexdigest(self) -> str:
        """The sha256 of everything; only for a complete part. Raises OSError."""
        return self._digest.hexdigest(Progress(f"checking {self.label}", self.size, self._digest.done))

    def sync(self) -> None:
        """Have the bytes on the disk. Raises FetchError when it turns out to be full, OSError."""
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            raise self.explained(error) from None

    def close(self) -> None:
        self._digest.close()
        self.file.close()

    def forget(self) -> None:
        """Remove the notes, once the part has its final name."""
        for suffix in (ORIGIN, PIECES):
            Path(self.path + suffix).unlink(missing_ok=True)

    # --- packages: which of them are in the part, and how many bytes that is; only whole pieces count -------------------
    def pieces(self, requirements: tuple[str, ...]) -> tuple[int, int]:
        """How many of ``requirements`` are in the part already, and their bytes; (0, 0) when it is none of theirs."""
        try:
            record = json.loads(Path(self.path + PIECES).read_text(encoding="utf-8"))
            done, size = int(record["done"]), int(record["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0
        same = record.get("requirements") == list(requirements)
        return (done, size) if same and 0 <= done <= len(requirements) and 0 <= size <= self.size else (0, 0)

    def record_pieces(self, requirements: tuple[str, ...], done: int) -> None:
        """Note that ``done`` of the packages are in the part, for good."""
        self.sync()
        self.came_from("packages", None)
        self._note(PIECES, json.dumps({"requirements": list(requirements), "done": done, "bytes": self.size}))
