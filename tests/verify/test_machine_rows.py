"""Each row about the machine, Docker, the models and the configuration: green on a good one, red for its own fault."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_local.fence.config import FenceConfig, dump
from claude_local.models import placement_check
from claude_local.models.placement_plan import PlacementPlan
from claude_local.verify import docker_rows
from claude_local.verify.catalogue import catalogue
from claude_local.verify.checks import Check, Failed
from claude_local.verify.configuration_rows import invalid_settings
from claude_local.verify.workbench import Workbench
from tests.models.gguf_file import gguf
from tests.verify.verify_lab import CONTAINER, GGUF, altered, deployed, docker_answers, write


def row(bench: Workbench, name: str) -> Check:
    return next(check for check in catalogue(bench.parameters) if check.id == name)


def evidence(bench: Workbench, name: str) -> str:
    with bench:
        return row(bench, name).run(bench)


def fault(bench: Workbench, name: str) -> Failed:
    with bench, pytest.raises(Failed) as caught:
        row(bench, name).run(bench)
    assert caught.value.fix
    return caught.value


# --- tools ----------------------------------------------------------------------------------------------------------


def test_a_tool_that_is_not_on_path_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bwrap", "socat", "jq", "curl"):
        write(tmp_path / "bin" / name, "#!/bin/sh\n", 0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert evidence(deployed(tmp_path), "tool.bwrap") == f"{tmp_path}/bin/bwrap"
    for name, package in (("bwrap", "bubblewrap"), ("socat", "socat"), ("jq", "jq"), ("curl", "curl")):
        (tmp_path / "bin" / name).unlink()
        failed = fault(deployed(tmp_path), f"tool.{name}")
        assert f"{name} is not on PATH" in failed.what and f"apt install {package}" in failed.fix


def test_a_bwrap_that_the_kernel_refuses_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bin/bwrap", "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n", 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    bench = deployed(tmp_path)
    assert "uid map: Permission denied" in fault(bench, "fence.namespaces").what
    known = FenceConfig(layers=("inner",), reason="the container hides /proc")
    write(bench.paths.fence_config, dump(known))
    assert "the container hides /proc" in evidence(bench, "fence.namespaces"), "fence.layers reports it, the rest runs"
    write(bench.paths.fence_config, dump(FenceConfig(layers=(), reason="the container hides /proc")))
    assert "uid map: Permission denied" in fault(bench, "fence.namespaces").what


def test_the_bubblewrap_that_the_deploy_chose_is_the_one_that_is_tried(tmp_path: Path) -> None:
    own = write(tmp_path / "own/bwrap", f"#!/bin/sh\necho here >>{tmp_path}/own/called\n", 0o755)
    bench = deployed(tmp_path)
    write(bench.paths.fence_config, dump(FenceConfig(bwrap=str(own))))
    assert "nested" in evidence(bench, "fence.namespaces")
    assert (tmp_path / "own/called").read_text() == "here\nhere\n"


def test_a_missing_runtime_is_a_fault(tmp_path: Path) -> None:
    assert "is missing" in fault(deployed(tmp_path), "runtime.python").what


# --- docker ---------------------------------------------------------------------------------------------------------

DOCKER = ["docker.daemon", "image.present", "image.build", "container.present", "container.running"]


@pytest.mark.parametrize("name", [*DOCKER, *(f"container.{name}" for name in docker_rows.PROPERTIES)])
def test_a_good_container_passes_every_docker_row(tmp_path: Path, name: str) -> None:
    assert evidence(deployed(tmp_path), name)


@pytest.mark.parametrize(
    ("name", "answers", "words"),
    [
        ("docker.daemon", {"version": (1, "Cannot connect to the Docker daemon.")}, "Cannot connect"),
        ("docker.daemon", {"version": (127, "sh: 1: docker: not found")}, ""),
        ("docker.daemon", {"version": (0, "null")}, "null"),
        ("image.present", {"image": (1, "Error: No such image: x")}, "No such image"),
        ("image.build", {"build": (0, "version: 9999 (b9999)")}, "b9999"),
        ("image.build", {"build": (0, "version: 114340 (unknown)")}, "114340"),
        ("image.build", {"build": (126, "exec format error")}, "exec format error"),
        ("container.present", {"container": (1, "Error: No such container: claude-local-server")}, "No such container"),
    ],
)  # fmt: skip
def test_what_docker_lacks_is_named(tmp_path: Path, name: str, answers: dict[str, tuple[int, str]], words: str) -> None:
    assert words in fault(deployed(tmp_path, docker=docker_answers(**answers)), name).what


@pytest.mark.parametrize(
    "line", ["version: 0.6.0-dev (build 11434, commit b11434)", "version: 11434 (b11434)", "version: b11434"]
)
def test_the_build_number_is_found_in_every_form_of_the_version(tmp_path: Path, line: str) -> None:
    assert evidence(deployed(tmp_path, docker=docker_answers(build=(0, line))), "image.build") == line


@pytest.mark.parametrize(
    ("name", "path", "value", "words"),
    [
        ("present", "Config.Image", "claude-local/llama-server:old", "claude-local/llama-server:old"),
        ("running", "State", {"Running": False, "Status": "exited", "ExitCode": 137}, "137"),
        ("running", "State", {"Running": True, "Status": "restarting", "Restarting": True}, "restarting"),
        ("running", "State.Health", {"Status": "unhealthy"}, ""),
        ("port", "HostConfig.PortBindings", {"8080/tcp": [{"HostIp": "", "HostPort": "8080"}]}, "0.0.0.0:8080"),
        ("port", "HostConfig.PortBindings", {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9"}]}, "8080"),
        ("port", "HostConfig.NetworkMode", "host", "host network"),
        ("user", "Config.User", "", "root"),
        ("user", "Config.User", "0:0", "0:0"),
        ("read-only", "HostConfig.ReadonlyRootfs", False, ""),
        ("read-only", "Mounts", [{"Type": "bind", "Source": "/a", "Destination": "/models", "RW": True}], "/models"),
        ("capabilities", "HostConfig.CapDrop", None, "none"),
        ("capabilities", "HostConfig.CapAdd", ["SYS_ADMIN"], "SYS_ADMIN"),
        ("privileges", "HostConfig.SecurityOpt", None, "no-new-privileges"),
        ("privileges", "HostConfig.SecurityOpt", ["no-new-privileges:false"], "no-new-privileges:false"),
        ("privileges", "HostConfig.SecurityOpt", ["no-new-privileges", "seccomp=unconfined"], "seccomp=unconfined"),
        ("isolation", "HostConfig.Privileged", True, "privileged"),
        ("isolation", "HostConfig.PidMode", "host", "host PIDs"),
        ("isolation", "Mounts", [{"Source": "/var/run/docker.sock", "Destination": "/s"}], "docker.sock"),
        ("init", "HostConfig.Init", None, ""),
        ("memory", "HostConfig.Memory", 0, ""),
        ("pids", "HostConfig.PidsLimit", None, ""),
        ("health", "Config.Healthcheck", None, ""),
        ("health", "Config.Healthcheck", {"Test": ["CMD", "x"], "StartPeriod": 5_000_000_000}, "5 s"),
        ("restart", "HostConfig.RestartPolicy", {"Name": "unless-stopped"}, "'unless-stopped'"),
        ("logs", "HostConfig.LogConfig", {"Type": "json-file", "Config": {}}, "max-size"),
    ],
)
def test_each_property_of_the_container_is_checked(
    tmp_path: Path, name: str, path: str, value: Any, words: str
) -> None:
    bench = deployed(tmp_path, docker=docker_answers(altered(path, value)))
    if name == "present":
        bench = deployed(tmp_path, docker=docker_answers({**altered(path, value), "Image": "sha256:another"}))
    assert words in fault(bench, f"container.{name}").what


def test_the_software_device_is_shown_as_one_for_tests(tmp_path: Path) -> None:
    bench = deployed(tmp_path, docker=docker_answers(altered("Config.Env", ["GGML_VK_VISIBLE_DEVICES=0"])))
    assert "software device: for tests" in evidence(bench, "container.present")
    assert "software" not in evidence(deployed(tmp_path / "other"), "container.present")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("192.0.2.2 Connection refused", "reaches 192.0.2.2"),
        ("192.0.2.2 open", "reaches 192.0.2.2"),
        ("example.com resolved", "resolves names"),
    ],
)
def test_a_container_with_a_way_out_is_a_fault(tmp_path: Path, line: str, words: str) -> None:
    bench = deployed(tmp_path, docker=docker_answers(reach=(0, f"172.19.0.1 Connection refused\n{line}")))
    assert words in fault(bench, "container.no-way-out").what


def test_a_container_without_a_way_out_passes_and_the_row_names_what_it_tried(tmp_path: Path) -> None:
    words = evidence(deployed(tmp_path), "container.no-way-out")
    assert "192.0.2.2, fd00::2" in words and "172.19.0.1" not in words, "the bridge itself must be in reach"


def test_a_container_on_a_further_network_or_that_cannot_be_asked_is_a_fault(tmp_path: Path) -> None:
    address = {"IPAddress": "172.17.0.2", "IPPrefixLen": 16}
    networks = {**CONTAINER["NetworkSettings"]["Networks"], "bridge": address}
    bench = deployed(tmp_path, docker=docker_answers(altered("NetworkSettings.Networks", networks)))
    assert "bridge" in fault(bench, "container.no-way-out").what
    bench = deployed(tmp_path, docker=docker_answers(reach=(126, "exec failed")))
    assert "exec failed" in fault(bench, "container.no-way-out").what


# /proc/net/route of a little-endian machine: the default route over eth0, 172.19.0.0/16 on br-1.
DEFAULT = "eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n"
BRIDGE = "br-1 000013AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n"


@pytest.mark.parametrize(
    ("routes", "words"), [(DEFAULT + BRIDGE, None), (BRIDGE + DEFAULT, None), (DEFAULT, "eth0"), ("", "nowhere")]
)
def test_the_containers_address_must_be_on_a_bridge_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, routes: str, words: str | None
) -> None:
    (tmp_path / "net/br-1/bridge").mkdir(parents=True)
    (tmp_path / "route").write_text("Iface Destination Gateway ...\n" + routes)
    monkeypatch.setattr(docker_rows, "ROUTES", tmp_path / "route")
    monkeypatch.setattr(docker_rows, "INTERFACES", tmp_path / "net")
    if words is None:
        assert "172.19.0.3" in evidence(deployed(tmp_path), "container.bridge")
    else:
        assert words in fault(deployed(tmp_path), "container.bridge").what


def test_docker_desktops_bridge_is_not_looked_for_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "route").write_text("Iface Destination Gateway ...\n" + DEFAULT)
    monkeypatch.setattr(docker_rows, "ROUTES", tmp_path / "route")
    desktop = '{"Version": "28.0", "Platform": {"Name": "Docker Desktop 4.48.0 (207573)"}}'
    bench = deployed(tmp_path, docker=docker_answers(version=(0, desktop)))
    assert "Docker Desktop 4.48.0" in evidence(bench, "container.bridge")
    engine = '{"Version": "28.0", "Platform": {"Name": "Docker Engine - Community"}}'
    bench = deployed(tmp_path / "other", docker=docker_answers(version=(0, engine)))
    assert "eth0" in fault(bench, "container.bridge").what


def test_a_stopped_containers_fix_starts_it(tmp_path: Path) -> None:
    bench = deployed(tmp_path, docker=docker_answers(altered("State", {"Running": False, "Status": "exited"})))
    assert fault(bench, "container.running").fix.startswith("docker start claude-local-server")


def test_verify_asks_docker_itself_when_nobody_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"version": '{"Version": "28.0"}', "image": '{"Id": "sha256:1", "Size": 1}',
            "container": json.dumps(CONTAINER), "run": "version: 11434 (x)",
            "exec": "192.0.2.2 No route to host"}  # fmt: skip
    cases = "".join(f"  {name}*) cat <<'E'\n{text}\nE\n  ;;\n" for name, text in said.items())
    # With a broken config.json, docker prints a warning each time. It is never the value.
    warning = "{} version 1: WARNING: Error loading config file"
    script = f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho \'{warning}\' >&2\ncase "$*" in\n{cases}esac\n'
    write(tmp_path / "path/docker", script, 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/path:{os.environ['PATH']}")
    bench = deployed(tmp_path, docker=None)
    with bench:
        for name in [*DOCKER[:1], *DOCKER[3:], "container.no-way-out"]:
            assert row(bench, name).run(bench)
        assert row(bench, "docker.daemon").run(bench) == "Docker 28.0"
    asked = (tmp_path / "asked").read_text()
    assert "container inspect --format {{json .}} claude-local-server" in asked and "--network none" in asked


def test_a_docker_that_refuses_the_user_is_asked_with_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = (
        '#!/bin/sh\ntest -n "$AS_ROOT" && echo \'{"Version": "1"}\' && exit\necho \'permission denied\' >&2\nexit 1\n'
    )
    write(tmp_path / "path/docker", refused, 0o755)
    write(tmp_path / "path/sudo", '#!/bin/sh\nshift\nAS_ROOT=1 exec "$@"\n', 0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/path:{os.environ['PATH']}")
    assert evidence(deployed(tmp_path, docker=None), "docker.daemon") == "Docker 1"


# --- models ---------------------------------------------------------------------------------------------------------


def model(bench: Workbench) -> Path:
    return Path(bench.paths.model_dir) / "small.gguf"


def edit_placements(bench: Workbench, change: Any) -> None:
    found = json.loads(Path(bench.paths.placements).read_text())
    change(found)
    Path(bench.paths.placements).write_text(json.dumps(found))


def test_a_model_with_its_stamp_is_not_read_again(tmp_path: Path) -> None:
    assert "unchanged since it was verified" in evidence(deployed(tmp_path), "model.small")


def test_flipped_bytes_of_the_same_size_are_corruption(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    with model(bench).open("r+b") as file:
        file.seek(len(GGUF) // 2)
        file.write(b"\0" * 64)
    failed = fault(bench, "model.small")
    assert "is corrupt: sha256" in failed.what and failed.fix.startswith("./provision")


def test_flipped_bytes_under_an_unchanged_stamp_are_found_by_a_deep_run_only(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    info = model(bench).stat()
    with model(bench).open("r+b") as file:
        file.seek(100)
        file.write(b"\0" * 64)
    os.utime(model(bench), ns=(info.st_atime_ns, info.st_mtime_ns))
    assert evidence(bench, "model.small")
    bench.deep = True
    assert "is corrupt" in fault(bench, "model.small").what


@pytest.mark.parametrize("damage", [b"\0" * 64, b"HTML"])
def test_the_fix_for_damage_that_a_deploy_does_not_see_makes_the_deploy_see_it(tmp_path: Path, damage: bytes) -> None:
    """./provision alone trusts size, time and inode."""
    bench = deployed(tmp_path)
    path = model(bench)
    info = path.stat()
    with path.open("r+b") as file:
        file.seek(0 if damage == b"HTML" else 100)
        file.write(damage)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    file_wanted = {"name": "small.gguf", "sha256": hashlib.sha256(GGUF).hexdigest(), "size": len(GGUF), "sources": []}
    plan = PlacementPlan.read(
        json.dumps(
            {
                "model_dir": bench.paths.model_dir,
                "hub": "https://hub.invalid",
                "placements_path": bench.paths.placements,
                "profiles": [{"id": "small", "files": [file_wanted]}],
            }
        )
    )
    assert [row["state"] for row in placement_check.check(plan)["files"]] == ["ok"]
    bench.deep = True
    command = fault(bench, "model.small").fix.partition(" && ./provision")
    assert command[1]
    subprocess.run(command[0], shell=True, check=True)
    assert [row["state"] for row in placement_check.check(plan)["files"]] == ["changed"]
    assert fault(bench, "model.small").fix.startswith("./provision")


@pytest.mark.parametrize("sound", [True, False])
def test_without_a_known_sha256_only_the_header_is_checked_and_the_row_says_so(tmp_path: Path, sound: bool) -> None:
    bench = deployed(tmp_path)
    edit_placements(bench, lambda found: found["files"][str(model(bench))].update(sha256=None, size=None))
    if sound:
        model(bench).write_bytes(gguf())
        text = evidence(bench, "model.small")
        assert "no sha256 is known" in text and "matches" not in text
    else:
        model(bench).write_bytes(gguf()[:-1])
        assert "is corrupt: truncated" in fault(bench, "model.small").what


def test_a_file_of_the_users_in_the_place_of_ours_is_theirs_to_replace(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    write(model(bench).with_suffix(".mine"), GGUF[:1000]).rename(model(bench))
    assert "your own file" in fault(bench, "model.small").fix


def test_a_touched_model_is_hashed_again_and_found_right(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    os.utime(model(bench))
    assert "touched since it was verified" in evidence(bench, "model.small")


def test_a_truncated_foreign_or_missing_model_is_named(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    os.truncate(model(bench), 1000)
    assert f"truncated: 1000 bytes of {len(GGUF)}" in fault(bench, "model.small").what
    model(bench).write_bytes(b"HTML" + GGUF[4:])
    assert "does not start with GGUF" in fault(bench, "model.small").what
    model(bench).unlink()
    assert "is missing" in fault(bench, "model.small").what


def test_the_users_own_broken_file_is_theirs_to_replace(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    edit_placements(bench, lambda found: found["files"][str(model(bench))].update(placed=False))
    os.truncate(model(bench), 1000)
    assert "your own file" in fault(bench, "model.small").fix


def test_a_profile_that_was_never_placed_and_lost_placements_are_faults(tmp_path: Path) -> None:
    bench = deployed(tmp_path, profiles=("small", "big"))
    assert "big has not been placed" in fault(bench, "model.big").what
    Path(bench.paths.placements).write_text("{")
    assert "cannot be read" in fault(bench, "model.small").what
    Path(bench.paths.placements).unlink()
    assert "no model was placed" in fault(bench, "model.small").what


# --- token and settings ---------------------------------------------------------------------------------------------


def test_a_good_configuration_passes(tmp_path: Path) -> None:
    for name in ("token", "settings", "settings.first-start", "settings.locks"):
        assert evidence(deployed(tmp_path), name)


def test_a_token_that_is_missing_empty_readable_by_others_or_not_the_servers_is_a_fault(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    token = Path(bench.paths.token)
    token.chmod(0o644)
    assert "0644" in fault(bench, "token").what and fault(bench, "token").fix == f"chmod 600 {token}"
    token.chmod(0o600)
    token.write_text("another\n")
    assert "differ" in fault(bench, "token").what
    token.write_text("\n")
    assert "is empty" in fault(bench, "token").what
    token.unlink()
    assert "is missing" in fault(bench, "token").what and fault(bench, "token").fix == "./provision"
    bench = deployed(tmp_path)
    Path(bench.paths.api_key_file).unlink()
    assert "server's copy" in fault(bench, "token").what


def test_no_evidence_holds_the_token(tmp_path: Path) -> None:
    assert "ttt" not in evidence(deployed(tmp_path), "token")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"permissions": ', "is not JSON: line 1"),
        ("{ oops", "is not JSON: line 1, column 3"),
        ("[]", "holds a list"),
        ("{}", "disableAutoMode is None"),
        ('{"permissions": {"disableAutoMode": "enable"}}', "is 'enable', it must be 'disable'"),
        ('{"permissions": {"disableAutoMode": "disable"}}', "no $schema"),
    ],
)
def test_broken_settings_are_named(tmp_path: Path, text: str, words: str) -> None:
    bench = deployed(tmp_path)
    Path(bench.paths.settings).write_text(text)
    failed = fault(bench, "settings")
    assert words in failed.what and "./provision" in failed.fix


def test_the_users_own_settings_are_welcome(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    found = json.loads(Path(bench.paths.settings).read_text())
    found["permissions"]["defaultMode"] = "acceptEdits"
    found["theme"] = "light"
    Path(bench.paths.settings).write_text(json.dumps(found))
    assert "acceptEdits mode" in evidence(bench, "settings")


def test_a_first_start_with_questions_and_an_unlocked_sandbox_are_faults(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    Path(bench.paths.claude_json).write_text("{}")
    assert "hasCompletedOnboarding" in fault(bench, "settings.first-start").what
    Path(bench.paths.enforced_settings).write_text('{"sandbox": {"enabled": false}}')
    assert "sandbox.enabled" in fault(bench, "settings.locks").what
    Path(bench.paths.enforced_settings).unlink()
    assert "is missing" in fault(bench, "settings.locks").what


def test_the_wrapper_has_to_be_there_and_executable(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    assert "is missing" in fault(bench, "wrapper").what
    write(bench.paths.wrapper, "#!/bin/sh\n", 0o644)
    assert "not executable" in fault(bench, "wrapper").what
    Path(bench.paths.wrapper).chmod(0o755)
    assert evidence(bench, "wrapper") == bench.paths.wrapper


def test_the_doctors_section_of_invalid_settings_is_read() -> None:
    doctor = (
        "Claude Code doctor\n\nRunning: native\n\nInvalid settings\n"
        "- /h/settings.json › permissions.defaultMode: Invalid\n"
        "  Suggested fix: Valid modes\n- /h/b.json: Invalid or malformed JSON\n\nRemote Control\n- Not signed in\n"
    )
    assert invalid_settings(doctor) == [
        "/h/settings.json › permissions.defaultMode: Invalid", "/h/b.json: Invalid or malformed JSON",
    ]  # fmt: skip
    assert invalid_settings(doctor.replace("Invalid settings", "Other")) == []


def test_nothing_of_these_rows_writes(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    before = sorted((str(p), stat.S_IMODE(p.lstat().st_mode), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
    for name in ("token", "settings", "settings.first-start", "settings.locks", "model.small", "container.port"):
        evidence(bench, name)
    assert before == sorted(
        (str(p), stat.S_IMODE(p.lstat().st_mode), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*")
    )
