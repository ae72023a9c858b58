"""Shell commands made of their parts."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfra.api import QuoteString, StringCommand


def join(argv: Sequence[str]) -> StringCommand:
    """The command with these arguments, each quoted."""
    return StringCommand(*[QuoteString(word) for word in argv])


def script(text: str, *arguments: str) -> StringCommand:
    """``sh -c TEXT sh ARGUMENT...``: the script ``text`` reads its arguments as ``$1``, ``$2`` ..."""
    return join(["sh", "-c", text, "sh", *arguments])
