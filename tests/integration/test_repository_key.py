"""The real gpg accepts a vendor's key only if the file holds one key, with the pinned fingerprint.

Keys are made here; the address they come from and apt are stand-ins (curl, apt-get).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_local.deploy.operations import apt_repository
from tests.integration.machine import need

pytestmark = pytest.mark.integration


class Keyring:
    """A keyring for the test."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self._folder = folder

    def _gpg(self, *words: str) -> str:
        command = ["gpg", "--homedir", str(self._folder), "--batch", "--quiet", "--passphrase", "", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def make(self, name: str) -> str:
        """Create a key with a subkey, as vendors have. Returns the key's fingerprint."""
        self._gpg("--quick-generate-key", name, "ed25519", "sign", "never")
        fingerprint = self.fingerprints(name)[0]
        self._gpg("--quick-add-key", fingerprint, "cv25519", "encr", "never")
        return fingerprint

    def fingerprints(self, name: str) -> list[str]:
        """The fingerprints of the key and then of its subkeys."""
        lines = self._gpg("--with-colons", "--with-subkey-fingerprint", "--list-keys", name).splitlines()
        return [line.split(":")[9] for line in lines if line.startswith("fpr:")]

    def exported(self, *names: str) -> str:
        return self._gpg("--armor", "--export", *names)

    def stop(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._folder), "--kill", "all"], check=True, timeout=60)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keyring]:
    need(gpg="gnupg")
    keyring = Keyring(tmp_path / "keyring")
    yield keyring
    keyring.stop()


def added(tmp_path: Path, served: str, pinned: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Add a repository whose address serves ``served``. Returns the process and the sources file's path."""
    tools, etc = tmp_path / "bin", tmp_path / "etc"
    tools.mkdir()
    (etc / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "served").write_text(served)
    copy = f'while test "$1" != -o; do shift; done; cp {tmp_path}/served "$2"'
    for name, script in (("curl", copy), ("apt-get", "exit 0")):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    words = ["https://example.org/x", "https://example.org/key", pinned, "x", "Types: deb\n", "5", "1", str(etc)]
    environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", apt_repository.SCRIPT, "sh", *words], env=environment, capture_output=True, text=True, timeout=60
    )
    return done, etc / "apt/sources.list.d/x.sources"


def test_the_pinned_key_is_accepted_with_its_subkeys(tmp_path: Path, keys: Keyring) -> None:
    done, sources = added(tmp_path, served=keys.exported(pinned := keys.make("vendor")), pinned=pinned)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sources.read_text() == "Types: deb\n"
    assert (tmp_path / "etc/apt/keyrings/x.asc").read_text().startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")


def test_another_key_beside_the_pinned_one_is_refused(tmp_path: Path, keys: Keyring) -> None:
    """apt would trust both."""
    pinned = keys.make("vendor")
    done, sources = added(tmp_path, keys.exported(pinned) + keys.exported(keys.make("somebody")), pinned)
    assert done.returncode == 1 and f"is unreadable, expected {pinned}" in done.stdout and not sources.exists()


def test_a_subkeys_fingerprint_is_refused(tmp_path: Path, keys: Keyring) -> None:
    fingerprint = keys.make("vendor")
    (subkey,) = set(keys.fingerprints("vendor")) - {fingerprint}
    done, sources = added(tmp_path, keys.exported(fingerprint), subkey)
    assert done.returncode == 1 and f"is {fingerprint}, expected {subkey}" in done.stdout and not sources.exists()


def test_a_web_page_instead_of_the_key_is_refused(tmp_path: Path) -> None:
    done, sources = added(tmp_path, "<html>please log in</html>", "A" * 40)
    assert done.returncode == 1 and "is unreadable" in done.stdout and not sources.exists()
    assert not (tmp_path / "etc/apt/keyrings").exists()
