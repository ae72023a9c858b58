"""The model hub as this machine and this user reach it: its address, and the token for gated repositories."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

# The environment variable of the hub's own client, huggingface_hub.
ENDPOINT = "HF_ENDPOINT"


class HubError(ValueError):
    """HF_ENDPOINT, model_hub or the token cannot be used. The message never holds the token."""


def address(setting: str) -> str:
    """The hub's address: HF_ENDPOINT where it is set, else the setting model_hub. Raises HubError."""
    text, where = os.environ.get(ENDPOINT, "").strip(), f"the environment variable {ENDPOINT}"
    if not text:
        text, where = setting, "the setting model_hub"
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    # A name and a password would end up in messages that others can read.
    if not valid or re.search(r"[\s@?#]", text):
        raise HubError(f"{where} is no hub's address, expected one like https://hub.example, without a password in it")
    return text.rstrip("/")


def same_origin(url: str, other: str) -> bool:
    """Whether two addresses have the same scheme, host and port."""
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.netloc) == (two.scheme, two.netloc)


def token_for(url: str, hub_address: str) -> str | None:
    """The user's token for a request to ``url``: only the hub gets it, and only over https or loopback.

    huggingface_hub reads it from HF_TOKEN, HF_TOKEN_PATH or the file of ``hf auth login``. Raises HubError for a token
    that no header can carry.
    """
    safe = urlsplit(url).scheme == "https" or urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    if not safe or not same_origin(url, hub_address):
        return None
    from huggingface_hub import get_token  # imported here: ``placement check`` needs no hub and must stay fast

    token = get_token()
    if token and not re.fullmatch(r"[!-~]+", token):
        raise HubError("the hub's token (HF_TOKEN, or the file of `hf auth login`) is no token: expected one word")
    return token
