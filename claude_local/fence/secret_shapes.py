"""What looks like a secret: names and values of environment variables, and files of programs' settings. Pure."""

from __future__ import annotations

import re

_CREDENTIAL = re.compile(
    r"(TOKEN|SECRET|APIKEY|PASSWORD|JWT)S?(_|$)|(PASSWD|PASSPHRASE|SSHPASS)(_|$)|SERVICE_?ACCOUNT"
    r"|(^|_)(PASS|CREDENTIAL|CREDENTIALS|PAT|COOKIE|WEBHOOK|WEBHOOKS)(_|$)|(^|_)SA_JSON$|(^|_)AUTH(_CONFIG|_JSON)?$"
    r"|_PWD(_|$)|CONNECTION_?STRING(_|$)|_SESSION$|^OP_SESSION_"
    r"|(^|_)(API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|AUTH|MASTER|ACCOUNT|SERVICE)_?KEY(_|$)|_KEY$|^AWS_|_DSN$"
    r"|(^|_)(DATABASE|DB|MONGO|MONGODB|REDIS|POSTGRES|POSTGRESQL|MYSQL|AMQP|RABBITMQ|BROKER)_UR[LI]$",
    re.IGNORECASE,
)
# Names that match the pattern above but are no secrets, or that the session needs.
_NO_SECRETS = re.compile(
    r"^(ANTHROPIC_|CLAUDE_|MAX_.*TOKENS|AWS_(DEFAULT_)?REGION$|AWS_PAGER$"
    r"|(XDG|DESKTOP|GNOME|KDE|KONSOLE|TMUX|SHELL)\w*SESSION$"
    r"|(\w+_)?(PUBLIC|PUB|CACHE|SORT|PRIMARY|FOREIGN|PARTITION|PREFIX|META|MOD|COMPOSE)_KEY$)",
    re.IGNORECASE,
)
# An address with a password in it, or with something as long as a token in place of the user's name.
_LOGIN_IN_ADDRESS = re.compile(r"://([^/\s@:]*:[^/\s@]+|[^/\s@:]{20,})@")
# Tokens by their makers' prefixes, and JSON Web Tokens.
_RUN = re.compile(r"[\w.-]{20,}")
_PREFIXES = (
    "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "gldt-", "glrt-", "glcbt-", "sk-", "sk_", "rk_",
    "xoxa-", "xoxb-", "xoxe-", "xoxp-", "xoxs-", "hf_", "npm_", "pypi-", "dop_v1_", "ya29.", "AIza", "AKIA", "ASIA",
    "eyJ",
)  # fmt: skip
_HOOK = re.compile(r"://[^\s]{0,200}(hooks\.|/webhooks?/)[^\s]{20}")
# Nothing but letters of both cases and digits, mixed.
_RANDOM = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=(?:[^0-9]*[0-9]){3})[A-Za-z0-9]{24,200}={0,2}")
# A setting with a secret has one of these words in its name, and a value that is neither short nor a path, a variable
# or another object. Looked for in lower case, word by word: a search for all of them at once takes a hundred times as
# long.
_WORDS = (
    "token", "secret", "password", "passwd", "passphrase", "pass", '"auth', "apikey", "api_key", "api-key",
    "access_key", "access-key", "accesskey", "private_key", "private-key", "privatekey", "license_key", "account_key",
)  # fmt: skip
_VALUE = re.compile(r"[\w-]{0,40}[\"']?[ \t]*[:=][ \t]*[\"']?(?![/~$<{\[%])[^\s\"',;{}]{8}")
_FILE = re.compile(
    r"(?i)(^|[._-])(token|secret|credential|password|passwd|apikey|cookie)s?([._-]|$)|^(auth|keys|oauth)\.\w+$"
    r"|\.(pem|key|p12|pfx|kdbx|keyring)$"
)


def looks_like_a_credential(name: str) -> bool:
    """Whether a variable's name says that its value is a secret."""
    return _CREDENTIAL.search(name) is not None and _NO_SECRETS.match(name) is None


def holds_a_login(value: str) -> bool:
    """Whether a variable's value is an address with a password (``https://user:password@host``)."""
    return "://" in value and _LOGIN_IN_ADDRESS.search(value) is not None


def looks_like_a_secret(value: str) -> bool:
    """Whether a variable's value is one, whatever its name is."""
    is_object = value.lstrip().startswith("{")
    return holds_a_login(value) or _is_marked(value) or bool(_RANDOM.fullmatch(value)) or (is_object and _sets(value))


def is_secret_file(name: str, text: str) -> bool:
    """Whether a file of settings holds a secret, by its name or by its text."""
    return bool(_FILE.search(name)) or holds_a_login(text) or _is_marked(text) or _sets(text)


def _is_marked(text: str) -> bool:
    """Whether ``text`` has a token with a known prefix, a private key, or the address of a web hook."""
    if " PRIVATE KEY-----" in text or ("hook" in text and _HOOK.search(text)):
        return True
    long = [word for word in text.split() if len(word) >= 20]
    return any(run.startswith(_PREFIXES) for word in long for run in _RUN.findall(word))


def _sets(text: str) -> bool:
    """Whether a setting in ``text`` is a secret."""
    text = text.lower()
    for word in _WORDS:
        at = text.find(word)
        while at >= 0:
            is_part = word == "pass" and text[at - 1 : at].isalpha()
            if not is_part and _VALUE.match(text, at + len(word)):
                return True
            at = text.find(word, at + 1)
    return False
