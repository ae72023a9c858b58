"""The makers' chat templates, from the source archive of the pinned llama.cpp, each by its sha256. Not kept in git.

``CLAUDE_LOCAL_TEST_TEMPLATES`` names a folder that has them (a llama.cpp tree's ``models/templates``); without it they
are fetched once, from where the deploy gets the sources, into ``~/.cache/claude-local``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from claude_local.image import source
from claude_local.image.builds import BUILDS, LlamaBuild
from tests.chat.families import FAMILIES

WANTED = {family.official: family.sha256 for family in FAMILIES}


class TemplatesError(Exception):
    """The templates could not be had; one line a source that was tried."""


def build() -> LlamaBuild:
    """The newest pinned build."""
    return BUILDS[max(BUILDS)]


def problems(folder: Path) -> list[str]:
    """Which of the wanted files ``folder`` lacks or has with another content."""
    found = []
    for name, expected in sorted(WANTED.items()):
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            found.append(
                f"{path} is not the file that was checked: look at its changes, then at tests/chat/families.py"
            )
    return found


def templates() -> Path:
    """A folder with all of the wanted templates. Raises TemplatesError."""
    if named := os.environ.get("CLAUDE_LOCAL_TEST_TEMPLATES"):
        wrong = problems(Path(named))
        if wrong:
            raise TemplatesError("\n".join(wrong))
        return Path(named)
    cache = Path.home() / ".cache/claude-local" / f"chat-templates-{build().name}"
    if not problems(cache):
        return cache
    reasons = []
    fetchers: list[Callable[[Path], tuple[Path, str]]] = [
        lambda scratch: source.from_pypi(build(), scratch),
        lambda scratch: source.from_git_host(build(), scratch, source.session()),
    ]
    for fetch in fetchers:
        with tempfile.TemporaryDirectory(prefix="chat-templates-") as scratch:
            try:
                archive, _ = fetch(Path(scratch))
                fresh = unpacked(archive, Path(scratch) / "templates")
            except (source.SourceError, tarfile.TarError, OSError) as error:
                reasons.append(str(error))
                continue
            wrong = problems(fresh)
            if not wrong:
                shutil.rmtree(cache, ignore_errors=True)
                cache.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(fresh, cache)
                return cache
            reasons += wrong
    raise TemplatesError("\n".join(reasons))


def unpacked(archive: Path, folder: Path) -> Path:
    """The wanted templates of a source archive in ``folder``; only their content is taken from it."""
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if parts[-3:-1] == ["models", "templates"] and parts[-1] in WANTED and member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                (folder / parts[-1]).write_bytes(content.read())
    return folder
