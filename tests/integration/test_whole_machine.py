"""The whole project on this machine: ./provision works, the model answers, and a deploy repairs what breaks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.machine import HOME, PYINFRA, SHARE, deploy_json, docker, run, verify

pytestmark = pytest.mark.integration

CONTAINER = "claude-local-server"
MODEL = SHARE / "models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
TOKEN = HOME / ".config/claude-local/token"
SETTINGS = HOME / ".claude-local/settings.json"
WRAPPER = HOME / "bin/claude-local"
# Every row except those that need a whole session or wait for the real model.
QUICK = (
    "verify_only=tool.*,fence.namespaces,runtime.*,docker.*,image.*,container.*,model.*,token,wrapper,settings*,"
    "claude.version,server.*,manager.*"
)


@pytest.mark.parametrize(
    "words",
    [
        ["@local", "deploy.py"],
        ["@local", "deploy.py", "--limit", "@local", "--data", "server_start_timeout=700"],
        ["inventory.py", "deploy.py"],
        ["@local", "tasks/verify.py"],
    ],
    ids=" ".join,
)
def test_dry_succeeds(words: list[str]) -> None:
    assert run(PYINFRA, "--dry", *words, timeout=300).returncode == 0


@pytest.fixture(scope="module")
def provisioned() -> list[dict[str, Any]]:
    """Run ./provision on the machine as it is, with no check passed before. Returns the rows of verify's report."""
    (SHARE / "state/verify.passed.json").unlink(missing_ok=True)
    assert run("./provision", timeout=3600).returncode == 0
    rows: list[dict[str, Any]] = json.loads((SHARE / "state/verify.json").read_text())["rows"]
    return rows


def test_provision_sets_up_and_every_row_of_verify_passes(provisioned: list[dict[str, Any]]) -> None:
    for row in provisioned:
        print(f"{row['status']}  {row['id']:<24} {row['seconds']:>6.1f} s  {row['evidence']}")
    assert {row["id"]: row["evidence"] for row in provisioned if row["status"] == "FAIL"} == {}
    passed = {row["id"] for row in provisioned if row["status"] == "PASS"}
    expected = {"claude.chat", "claude.glob", "claude.read", "claude.write", "scripted.write", "claude.connections",
                "claude.terminal", "claude.context", "credentials.planted", "messages.stream",
                "server.key.wrong"}  # fmt: skip
    assert expected <= passed
    # credentials.own is skipped when the developer's own claude runs at the same time.
    assert {row["id"] for row in provisioned} - passed <= {"credentials.own"}


@pytest.mark.usefixtures("provisioned")
def test_a_second_deploy_changes_nothing_and_asks_nothing_twice() -> None:
    done = run(PYINFRA, "--json", "--debug", "-y", "@local", "deploy.py", timeout=600, stderr=subprocess.PIPE)
    totals = json.loads(done.stdout)["results"]["totals"]
    assert (done.returncode, totals["success"], totals["error"]) == (0, 0, 0)
    parts = done.stderr.split("--> Running command on localhost: ")[1:]
    commands = [part.partition("--> Waiting for exit status")[0] for part in parts]
    # Add to the number only what a second run has to know: each command is a round trip over ssh.
    assert 20 < len(commands) <= 35, [command[:200] for command in commands]
    assert len(set(commands)) == len(commands)


@pytest.mark.usefixtures("deployed")
def test_each_stage_run_alone_changes_nothing() -> None:
    first = ["preflight", "packages", "runtime", "fence", "docker", "nvidia"]
    for stage in [*first, "image", "models", "server", "manager", "claude", "home", "commands"]:
        done = run(PYINFRA, "--json", "-y", "@local", f"tasks/{stage}.py", timeout=300)
        assert done.returncode == 0
        if done.stdout.strip():
            totals = json.loads(done.stdout)["results"]["totals"]
            assert (totals["success"], totals["error"]) == (0, 0), stage


@pytest.mark.usefixtures("deployed")
def test_claude_local_answers() -> None:
    done = run(str(WRAPPER), "-p", "What is 2 + 3? Reply with the number only.", timeout=600)
    assert done.returncode == 0
    assert "5" in done.stdout


@pytest.mark.usefixtures("deployed")
def test_another_profile_answers_under_its_own_name() -> None:
    done = run(
        str(WRAPPER), "--model", "qwen2.5-coder-0.5b", "--tools", "", "-p", "Reply with the word ready.",
        "--output-format", "json", timeout=600,
    )  # fmt: skip
    assert done.returncode == 0
    assert "qwen2.5-coder-0.5b" in json.loads(done.stdout)["modelUsage"]


# --- sabotage: each fails its own row, and the next deploy repairs it -----------------------------------------------


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    aside = path.with_name(path.name + ".sabotaged")
    path.rename(aside)
    try:
        yield
    finally:
        if not path.exists():
            aside.rename(path)
        aside.unlink(missing_ok=True)


def sabotaged(rows: Sequence[str]) -> None:
    """Each of these rows of verify fails now, and passes after a deploy, which has then nothing left to do."""
    status, found = verify("--data", QUICK)
    failed = [name for name, row in found.items() if row["status"] == "FAIL"]
    print("sabotage", {name: found[name]["evidence"] for name in failed})
    assert status == 1 and set(rows) <= set(failed)
    assert all(found[row]["fix"] for row in rows)
    totals = deploy_json(timeout=900)
    assert totals["success"] > 0 and totals["error"] == 0
    status, found = verify("--data", QUICK)
    assert [name for name, row in found.items() if row["status"] == "FAIL"] == []
    assert status == 0
    totals = deploy_json(timeout=600)
    assert (totals["success"], totals["error"]) == (0, 0)


@pytest.mark.usefixtures("deployed")
def test_a_stopped_container_and_broken_files_fail_their_rows_and_a_deploy_repairs_them() -> None:
    subprocess.run([docker(), "stop", CONTAINER], check=True, timeout=60, capture_output=True)
    with MODEL.open("r+b") as file:
        file.seek(MODEL.stat().st_size // 2)
        file.write(b"\0" * 4096)
    SETTINGS.write_text(SETTINGS.read_text().replace("{", "{ oops", 1))
    sabotaged(["container.running", "model.qwen2.5-coder-0.5b", "settings"])


@pytest.mark.usefixtures("deployed")
def test_a_missing_token_and_bubblewrap_fail_their_rows_and_a_deploy_repairs_them() -> None:
    with moved_away(Path("/usr/bin/bwrap")):
        TOKEN.unlink()
        sabotaged(["token", "tool.bwrap"])
        assert os.access("/usr/bin/bwrap", os.X_OK)


@pytest.mark.usefixtures("deployed")
def test_the_users_settings_survive_a_deploy() -> None:
    before = SETTINGS.read_text()
    settings = json.loads(before)
    settings["permissions"]["defaultMode"] = "acceptEdits"
    settings["mine"] = {"kept": True}
    SETTINGS.write_text(json.dumps(settings))
    try:
        deploy_json(timeout=600)
        after = json.loads(SETTINGS.read_text())
        assert after["permissions"]["defaultMode"] == "acceptEdits" and after["mine"] == {"kept": True}
    finally:
        SETTINGS.write_text(before)


@pytest.mark.usefixtures("deployed")
def test_a_users_model_file_with_wrong_content_is_never_replaced(tmp_path: Path) -> None:
    wrong = tmp_path / MODEL.name
    wrong.write_bytes(b"GGUF" + b"\0" * (MODEL.stat().st_size - 4))
    done = run(
        PYINFRA, "-y", "@local", "tasks/models.py", "--data", f"model_dir={tmp_path}",
        "--data", 'model_profiles=["qwen2.5-coder-0.5b"]', timeout=600,
    )  # fmt: skip
    assert done.returncode == 1
    assert wrong.read_bytes()[:4] == b"GGUF" and wrong.stat().st_size == MODEL.stat().st_size
    assert run(PYINFRA, "-y", "@local", "deploy.py", timeout=600).returncode == 0
