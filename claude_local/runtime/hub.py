"""The model hub as this machine and this user reach it: its address, and the token for gated repositories."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

# The environment variables are those of the hub's own client:
# https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
ENDPOINT = "HF_ENDPOINT"


class HubError(ValueError):
    """HF_ENDPOINT or the token cannot be used; the message never holds the token."""


def address(setting: str) -> str:
    """The hub's address: HF_ENDPOINT where it is set, else the setting model_hub. Raises HubError."""
    text = os.environ.get(ENDPOINT, "").strip()
    if not text:
        return setting
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        sound = sound and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        sound = False
    if not sound or re.search(r"\s", text):
        raise HubError(
            f"the environment variable {ENDPOINT} is no hub's address, expected one like https://hub.example"
        )
    return text.rstrip("/")


def token() -> str | None:
    """The user's token: HF_TOKEN, or the file HF_TOKEN_PATH, or the one that ``hf auth login`` writes; None without one.

    Raises HubError when what is there is no token (a header could not carry it).
    """
    found, where = os.environ.get("HF_TOKEN", "").strip(), "the environment variable HF_TOKEN"
    if not found:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
        path = os.path.expanduser(os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token"))
        where = path
        try:
            found = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    if not found:
        return None
    if not re.fullmatch(r"[!-~]+", found):
        raise HubError(f"{where} holds no token: expected one word without spaces")
    return found
