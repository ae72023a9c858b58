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
    """HF_ENDPOINT, model_hub or the token cannot be used; the message never holds the token."""


def address(setting: str) -> str:
    """The hub's address: HF_ENDPOINT where it is set, else the setting model_hub. Raises HubError."""
    text, where = os.environ.get(ENDPOINT, "").strip(), f"the environment variable {ENDPOINT}"
    if not text:
        text, where = setting, "the setting model_hub"
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    # A name and a password would end up in messages and notes, which others can read.
    if not sound or re.search(r"[\s@?#]", text):
        raise HubError(f"{where} is no hub's address, expected one like https://hub.example, without a password in it")
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


def token_for(url: str, hub_address: str) -> str | None:
    """The token for a request to ``url``: the hub gets it, over https or loopback, and no other host. Raises HubError."""
    target, hub = urlsplit(url), urlsplit(hub_address)
    safe = target.scheme == "https" or target.hostname in ("127.0.0.1", "localhost", "::1")
    return token() if safe and (target.scheme, target.netloc) == (hub.scheme, hub.netloc) else None
