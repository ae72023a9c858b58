"""Settings: bad ones are refused, with every problem at once."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from claude_local.models import hub
from claude_local.settings import NAMES, SettingsError, canonical, load, load_profiles, validate

ROOT = Path(__file__).resolve().parents[1]
DEFAULTS = {k: v for k, v in runpy.run_path(str(ROOT / "group_data" / "all.py")).items() if not k.startswith("_")}


def problems(**changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        validate({**DEFAULTS, **changes})
    return caught.value.problems


def test_the_defaults_are_valid_and_complete() -> None:
    settings = validate(DEFAULTS)
    assert set(NAMES) == set(DEFAULTS)
    assert (settings.default_profile, settings.model_profiles) == ("auto", [])


def test_every_setting_has_a_comment_in_group_data() -> None:
    lines = (ROOT / "group_data" / "all.py").read_text().splitlines()
    for name in NAMES:
        (number,) = (i for i, line in enumerate(lines) if line.startswith(f"{name} ="))
        assert lines[number - 1].startswith("# ") and not lines[number - 1].startswith("# ---"), name


def test_all_problems_are_reported_at_once() -> None:
    lines = problems(server_port="http", image_cpu="fast", model_search_dirs=["relative"], home_default_mode=3)
    expected = {
        "home_default_mode": ("3", "'acceptEdits', 'default', 'dontAsk', 'plan'"),
        "image_cpu": ("'fast'", "'native', 'all'"),
        "model_search_dirs[0]": ("'relative'", "starts with / or ~/"),
        "server_port": ("'http'", "whole number"),
    }
    assert [line.partition(":")[0] for line in lines] == list(expected)
    for line, (value, allowed) in zip(lines, expected.values(), strict=True):
        assert value in line and allowed in line


@pytest.mark.parametrize("path", ["/data\n", "~/a\tb", "/a\0b", "~bob/models"])
def test_a_path_with_a_character_that_it_may_not_have_is_refused(path: str) -> None:
    for line, name in zip(
        problems(model_dir=path, model_search_dirs=[path]), ("model_dir", "model_search_dirs[0]"), strict=True
    ):
        assert line.startswith(f"{name}: found {path!r}") and "starts with / or ~/" in line
        assert "control characters" in line


def test_a_models_conf_from_windows_is_read(tmp_path: Path) -> None:
    conf = tmp_path / "models.conf"
    conf.write_bytes(b"\xef\xbb\xbf[glm]\r\nMODEL = glm.gguf\r\ntemp = 0.7\r\n")
    assert list(load_profiles(conf, None)) == ["glm"]


@pytest.mark.parametrize("misspelt", ["server_prot", "sever_port", "serverport", "server_porrt_number"])
def test_a_misspelt_setting_names_the_nearest_one(misspelt: str) -> None:
    assert problems(**{misspelt: 9000}) == [f"{misspelt}: unknown setting, did you mean server_port?"]


def test_the_deploy_reads_only_settings_that_exist() -> None:
    """mypy does not know the names: they come from the schema."""
    files = [*(ROOT / "tasks").glob("*.py"), *(ROOT / "claude_local").rglob("*.py")]
    names = {name for file in files for name in re.findall(r"(?:ws|self)\.settings\.(\w+)", file.read_text())}
    assert names <= set(NAMES) and "server_port" in names


def test_other_keys_of_pyinfra_and_the_user_are_ignored() -> None:
    validate({**DEFAULTS, "ssh_user": "me", "_sudo": True, "docker_identifier": "x", "my_own": 1}, typed=["_sudo"])


def test_a_key_of_the_command_line_must_be_a_setting() -> None:
    with pytest.raises(SettingsError) as caught:
        validate({**DEFAULTS, "nonsense": 1, "models": []}, typed=["nonsense", "models", "server_port"])
    assert caught.value.problems == [
        "models: unknown setting, did you mean models_conf?",
        "nonsense: unknown setting, see group_data/all.py",
    ]


def test_a_missing_setting_says_where_its_default_is() -> None:
    with pytest.raises(SettingsError, match="server_port: missing; group_data/all.py has its default"):
        validate({k: v for k, v in DEFAULTS.items() if k != "server_port"})


def test_ports_out_of_range_and_equal() -> None:
    (too_low,) = problems(server_port=80)
    assert too_low.startswith("server_port: ") and "1024 to 65535" in too_low
    (equal,) = problems(manager_port=8080)
    assert equal.startswith("manager_port: ") and "server_port" in equal


def test_contradictions_are_reported_together() -> None:
    version, build = problems(claude_minimum_version="2.10.0", image_llama_build=1)
    assert version.startswith("claude_minimum_version: ") and "claude_version (2.1.330)" in version
    assert build.startswith("image_llama_build: ") and "11434" in build


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@hub.example/x", "https://…@hub.example/x"),
        ("https://hub.example/?token=1", "https://hub.example/?token=1"),
        ("https://hub.example/#x", "https://hub.example/#x"),
        ("hub.example", "hub.example"),
        ("https:// hub.example", "https:// hub.example"),
        ("https:///x", "https:///x"),
    ],
)
def test_the_address_of_the_hub_must_not_hold_a_password(address: str, shown: str) -> None:
    """Messages and models.json show the address."""
    (problem,) = problems(model_hub=address)
    assert problem.startswith("model_hub: ") and f"'{shown}'" in problem and "without a user" in problem
    with pytest.raises(hub.HubError, match="the setting model_hub is no hub's address") as raised:
        hub.address(address)
    assert "secret" not in str(raised.value)


def test_a_mirror_with_a_port_and_a_path_can_be_the_hub() -> None:
    mirror = "http://mirror.example:8080/artifacts/hub"
    assert validate({**DEFAULTS, "model_hub": mirror}).model_hub == hub.address(mirror) == mirror


def test_profiles_that_are_not_in_models_conf_are_named() -> None:
    settings = validate({**DEFAULTS, "model_profiles": ["nope"], "default_profile": "other"})
    with pytest.raises(SettingsError) as caught:
        load_profiles(ROOT / "models.conf", settings)
    assert len(caught.value.problems) == 2
    assert "model_profiles[0]: found 'nope'" in caught.value.problems[0]
    assert "qwen2.5-coder-1.5b" in caught.value.problems[0]


def test_problems_of_settings_and_profiles_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "mine.conf").write_text("[a]\nMODEL = a.gguf\nCTX_SIZE = many\n")
    with pytest.raises(SettingsError) as caught:
        load({**DEFAULTS, "server_port": "http", "models_conf": "mine.conf"}, tmp_path)
    setting, profile = caught.value.problems
    assert setting.startswith("server_port: ")
    assert profile.startswith("mine.conf: [a] CTX_SIZE: found 'many'")
    with pytest.raises(SettingsError) as caught:
        load({**DEFAULTS, "models_conf": 3}, tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith("models_conf: ")


def test_an_old_profile_id_still_works() -> None:
    settings = validate({**DEFAULTS, "default_profile": "qwen3-coder-ud-q5"})
    known = load_profiles(ROOT / "models.conf", settings)
    assert canonical("qwen3-coder-ud-q5", known) == "qwen3-coder-next-ud-q4"
    own = {"qwen3-coder-ud-q5": known["gpt-oss-20b"]}
    assert canonical("qwen3-coder-ud-q5", own) == "qwen3-coder-ud-q5"  # the user's own section wins


def test_models_lock_fills_in_hashes_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    conf = tmp_path / "models.conf"
    conf.write_text("[a]\nMODEL = a.gguf\nSOURCES = hub o/r@" + "0" * 40)
    settings = validate(DEFAULTS)
    assert load_profiles(conf, settings)["a"].unpinned
    entry = {"source": "hub o/r@" + "0" * 40, "name": "a.gguf", "sha256": "ab" * 32, "size": 7}
    lock = tmp_path / "models.lock"
    lock.write_text(json.dumps({"version": 1, "files": [entry]}))
    profile = load_profiles(conf, settings)["a"]
    assert not profile.unpinned and (profile.files[0].sha256, profile.files[0].size) == ("ab" * 32, 7)
    lock.write_text("{}")
    with pytest.raises(SettingsError, match=r"models.lock: expected"):
        load_profiles(conf, settings)


def test_an_unknown_architecture_or_template_names_the_known_ones(tmp_path: Path) -> None:
    conf = tmp_path / "mine.conf"
    conf.write_text(
        "[a]\nMODEL = a.gguf\nARCHITECTURE = Qwen3.5-9b\n[b]\nMODEL = b.gguf\nCHAT_TEMPLATE = gemma4.jinja\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_profiles(conf, validate(DEFAULTS))
    shape, template = caught.value.problems
    assert shape.startswith("mine.conf: [a] ARCHITECTURE: found 'Qwen3.5-9b', expected one of GLM-4.7-Flash, ")
    assert "did you mean Qwen3.5-9B?" in shape
    assert template.startswith("mine.conf: [b] CHAT_TEMPLATE: found 'gemma4.jinja', expected one of gemma-4.jinja, ")


@pytest.mark.parametrize(("content", "says"), [(None, "cannot be read"), (b"\xff\xfe", "not UTF-8")])
def test_an_unreadable_profiles_file_is_an_error(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "models.conf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=says):
        load_profiles(path, validate(DEFAULTS))
