"""Which environment variables a session gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.fence.config import OUTER, FenceConfig
from claude_local.fence.environment import POINTERS, SOCKET_VARIABLES, command_ports, filtered
from claude_local.fence.secret_shapes import looks_like_a_credential, looks_like_a_secret

SECRETS = [
    "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "NPM_TOKEN",
    "CARGO_REGISTRY_TOKEN",
    "VAULT_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN", "CI_JOB_TOKEN", "SLACK_BOT_TOKEN", "github_token",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AZURE_CLIENT_SECRET",
    "OPENAI_API_KEY", "GEMINI_API_KEY", "OPENAI_APIKEY", "MISTRAL_API_KEY", "STRIPE_SECRET_KEY", "DJANGO_SECRET_KEY",
    "PRIVATE_KEY", "SSH_PRIVATE_KEY", "SIGNING_KEY", "ENCRYPTION_KEY", "RAILS_MASTER_KEY", "AZURE_STORAGE_ACCOUNT_KEY",
    "PGPASSWORD_PASSWORD", "DB_PASSWORD", "MYSQL_PASSWORD", "PASSWORD", "ROOT_PASSWD", "KEY_PASSPHRASE", "DB_PASS",
    "GOOGLE_APPLICATION_CREDENTIALS", "SESSION_COOKIE", "GITHUB_PAT", "SENTRY_DSN", "NPM_CONFIG__AUTH",
    "DATABASE_URL", "REDIS_URL", "MONGO_URI", "POSTGRES_URL", "PGPASSWORD", "MYSQL_PWD", "DB_PWD", "SSHPASS",
    "OPENAI_KEY",
    "STRIPE_KEY", "BW_SESSION", "OP_SESSION_my_account", "AZURE_STORAGE_CONNECTION_STRING", "CELERY_BROKER_URL",
    "REDISCLI_PASSWORD", "APP_DATABASE_URL", "DOCKER_AUTH_CONFIG", "CI_JOB_JWT", "CI_JOB_JWT_V2", "GITHUBTOKEN",
    "GCP_SA_JSON", "SLACK_WEBHOOK_URL", "MYAPIKEY", "CLIENTSECRET", "GOOGLE_SERVICE_ACCOUNT",
]  # fmt: skip
HARMLESS = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "LANG", "LC_ALL", "TZ", "EDITOR", "PAGER", "PWD",
    "VIRTUAL_ENV", "PYTHONPATH", "NVM_DIR", "JAVA_HOME", "GOPATH", "CARGO_HOME", "XDG_CONFIG_HOME", "HISTSIZE",
    "http_proxy", "NO_PROXY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PAGER", "MAX_THINKING_TOKENS",
    "KEYBOARD", "KEYMAP", "MONKEY", "COMPASS", "PATIENCE", "TOKENIZERS_PARALLELISM", "SECRETARY", "BYPASS_CACHE",
    "OLDPWD", "XDG_SESSION_ID", "XDG_SESSION_TYPE", "DESKTOP_SESSION", "GDMSESSION", "TERM_SESSION_ID",
    "KDE_FULL_SESSION",
    "SSH_PUBLIC_KEY", "CACHE_KEY", "HOTKEY", "INIT_CWD", "PIP_INDEX_URL", "HTTPS_PROXY", "GOPROXY",
    # Claude Code's own, which the wrapper sets
    "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_MAX_CONTEXT_TOKENS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_SSE_PORT", "API_TIMEOUT_MS", "SSL_CERT_FILE",
]  # fmt: skip
OUTSIDE = [
    "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "TMUX", "STY",
    "DOCKER_HOST",
    "KUBECONFIG", "GPG_AGENT_INFO", "VSCODE_IPC_HOOK_CLI", "VSCODE_GIT_IPC_HANDLE", "NVIM", "TMPDIR", "LD_PRELOAD",
    "GIT_ASKPASS", "SSH_ASKPASS", "NOTIFY_SOCKET",
]  # fmt: skip


@pytest.mark.parametrize("name", [*SECRETS, *OUTSIDE])
def test_secrets_and_pointers_to_the_outside_are_removed(name: str) -> None:
    assert filtered({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_variables_stay(name: str) -> None:
    assert filtered({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "value",
    ["https://me:secret@example.org/simple", "a http://:secret@proxy:3128", "https://0123456789abcdef0123@example.org"],
)
def test_an_address_with_a_login_is_removed(value: str) -> None:
    assert filtered({"PIP_INDEX_URL": value, "HTTPS_PROXY": value}) == {}
    assert filtered({"HTTPS_PROXY": value}, keep=["HTTPS_PROXY"]) == {"HTTPS_PROXY": value}


@pytest.mark.parametrize(
    "value",
    [
        "ghp_0123456789abcdefABCDEF0123456789abcd", "github_pat_11ABCDEFG0_abcdefghijkl", "glpat-abcdefghij0123456789",
        "glcbt-64_abcdefghij0123456789", "sk-proj-abcdefghijklmnop_qrst", "sk_live_abcdefghijklmnopqrst",
        "xoxb-1234567890-abcdefghijkl", "AKIAIOSFODNN7EXAMPLE0", "hf_abcdefghijklmnopqrstuvwx",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefg", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl",
        "https://hooks.slack.com/services/T00000000/B00000000/abcdefgh",
        "https://discord.com/api/webhooks/123456789012345678/abcdefg", "Zm9vYmFyMTIzNDU2Nzg5MFhZWmFiYw==",
        '{"auths": {"example.org": {"auth": "bWU6c2VjcmV0"}}}', '{"type": "x", "private_key": "MIIEvQIBADANBg"}',
    ],
)  # fmt: skip
def test_a_value_that_looks_like_a_secret_is_removed_whatever_its_name(value: str) -> None:
    assert filtered({"DEPLOY": value}) == {}
    assert filtered({"DEPLOY": value}, keep=["DEPLOY"]) == {"DEPLOY": value}


@pytest.mark.parametrize(
    "value",
    [
        "3f786850e387550fdab836ed7e6dc881de23001b", "0d9c2f2e-4d6e-4a8e-9d5c-6f1f2a3b4c5d", "jenkins-MyProject-12345",
        "/nix/store/0c5kxvzhj6x2f4q1a9b8c7d6e5f4g3h2-bash-5.2/bin", "rs=0:di=01;34:ln=01;36:mh=00:pi=40;33",
        "-Xmx2g -XX:+UseG1GC -Dfile.encoding=UTF-8", "unix:path=/run/user/1000/bus,guid=0123456789abcdef0123456789",
        "gnome-shell/Terminal/1234-0-host_TIME5678901", '{"level": "debug", "colour": true}', "x" * 100_000,
        "https://example.org/0123456789abcdefghij", "sk-learn", "", "a" * 30 + "A1",
    ],
)  # fmt: skip
def test_a_value_that_is_no_secret_stays(value: str) -> None:
    assert filtered({"SOMETHING": value}) == {"SOMETHING": value}


@pytest.mark.parametrize(
    "value", ["https://example.org/a:b@c", "ssh://git@example.org/x", "http://[::1]:3128", "a:b@c", "file:///a@b"]
)
def test_an_address_without_a_login_stays(value: str) -> None:
    assert filtered({"REMOTE": value}) == {"REMOTE": value}


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "DISPLAY", "DATABASE_URL"])
def test_variables_of_fence_environment_stay(name: str) -> None:
    assert filtered({name: "x", "NPM_TOKEN": "y"}, keep=[name]) == {name: "x"}


@pytest.mark.parametrize("socket", SOCKET_VARIABLES)
def test_an_allowed_socket_keeps_its_variables_only(socket: str) -> None:
    given_all = {name: "x" for names in SOCKET_VARIABLES.values() for name in names}
    assert set(filtered(given_all, sockets=[socket])) == set(SOCKET_VARIABLES[socket])


NAMES = st.one_of(st.text(), st.sampled_from([*SECRETS, *HARMLESS, *OUTSIDE]))


@given(st.dictionaries(NAMES, st.text()), st.lists(NAMES))
def test_variables_are_only_removed_and_never_the_kept_ones(given_all: dict[str, str], keep: list[str]) -> None:
    found = filtered(given_all, keep)
    assert found.items() <= given_all.items()
    assert set(keep) & set(given_all) <= set(found)
    lost = set(given_all) - set(found)
    assert all(
        name in POINTERS or looks_like_a_credential(name) or looks_like_a_secret(given_all[name]) for name in lost
    )
    assert not any(looks_like_a_credential(name) for name in set(found) - set(keep))


@given(st.sampled_from(["TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIALS"]), st.from_regex(r"\A[B-Z]{1,8}\Z"))
def test_any_products_credential_is_recognised(what: str, product: str) -> None:
    if f"{product}_".startswith(("ANTHROPIC_", "CLAUDE_", "MAX_")):
        return
    assert looks_like_a_credential(f"{product}_{what}") and looks_like_a_credential(f"{product}_{what}_FILE".lower())


def test_commands_listen_on_the_ports_of_this_machine_that_they_may_reach() -> None:
    config = FenceConfig(ports=(8080, 443), domains=("localhost:5432", "example.org:6379", "*", "127.0.0.1:8080"))
    assert command_ports(config) == [8080, 5432]
    assert command_ports(replace(config, layers=(OUTER,))) == []
