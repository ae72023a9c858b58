"""What sessions write at home stays in a temporary home, which goes away."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from claude_local.verify import processes
from claude_local.verify.temporary_home import home, link_chain
from tests.verify.verify_lab import deployed, write


def test_the_temporary_home_has_the_settings_but_not_the_history_and_goes_away(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    write(Path(bench.paths.config_dir) / "history.jsonl", "private")
    with bench:
        place = home(bench)
        config = place.root / ".claude-local"
        assert sorted(os.listdir(config)) == [".claude.json", "bash-env.sh", "enforced.json", "settings.json"]
        assert "projects" not in json.loads((config / ".claude.json").read_text())
        assert place.root.stat().st_mode & 0o777 == 0o700
        (place.workspace / "locked").mkdir(mode=0o500)
    assert not place.root.exists()
    assert (Path(bench.paths.config_dir) / "history.jsonl").read_text() == "private"


def test_a_home_left_by_a_killed_run_is_replaced(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    write(Path(bench.paths.state) / "verify-home/old/secret", "x")
    with bench:
        assert not (home(bench).root / "old").exists()


def test_sessions_get_no_variables_of_another_claude_and_a_false_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_USE_BEDROCK", "1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://cloud.example")
    with deployed(tmp_path) as bench:
        env = home(bench).environment("http://127.0.0.1:1")
    assert "CLAUDE_CODE_USE_BEDROCK" not in env and "ANTHROPIC_BASE_URL" not in env
    assert env["ANTHROPIC_API_KEY"].startswith("sk-ant-api03-") and env["CLAUDE_LOCAL_SERVER"] == "http://127.0.0.1:1"
    assert env["HOME"] == str(tmp_path) and env["PATH"].startswith(f"{tmp_path}/bin:")


needs_bwrap = pytest.mark.skipif(
    shutil.which("bwrap") is None or not processes.run(["bwrap", "--dev-bind", "/", "/", "--", "true"], timeout=20).ok,
    reason="bubblewrap cannot be used here",
)


@needs_bwrap
@pytest.mark.slow
def test_what_a_session_writes_at_home_never_reaches_the_real_home(tmp_path: Path) -> None:
    bench = deployed(tmp_path)
    write(tmp_path / "private.txt", "mine")
    script = (
        '#!/bin/sh\npwd\ncat "$HOME/.claude/.credentials.json" >/dev/null && echo login\n'
        'ls "$HOME/private.txt" 2>/dev/null\necho new > "$HOME/left-behind"\necho x > "$HOME/.claude-local/session"\n'
        'echo t > /tmp/claude-local-verify-test\n(sleep 300 &)\necho "[$(cat "$HOME/.config/claude-local/token")]"\n'
    )
    write(bench.paths.wrapper, script, 0o755)
    with bench:
        ended = home(bench).claude(timeout=20).ended
        assert ended.stdout.splitlines() == [f"{tmp_path}/verify-workspace", "login", f"[{'t' * 43}]"]
        bench.reap()
        assert processes.marked(bench.marker) == []
    assert not (tmp_path / "left-behind").exists() and not Path("/tmp/claude-local-verify-test").exists()
    assert sorted(os.listdir(bench.paths.config_dir)) == [
        ".claude.json",
        "bash-env.sh",
        "enforced.json",
        "settings.json",
    ]
    assert not (Path(bench.paths.state) / "verify-home").exists()


def test_links_are_followed_to_the_real_program(tmp_path: Path) -> None:
    write(tmp_path / "versions/2.1.330", "#!/bin/sh\n", 0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/claude").symlink_to("../versions/2.1.330")
    (tmp_path / "claude").symlink_to(tmp_path / "bin/claude")
    assert link_chain(tmp_path / "claude") == [
        tmp_path / "claude", tmp_path / "bin/claude", tmp_path / "versions/2.1.330",
    ]  # fmt: skip
    (tmp_path / "loop").symlink_to("loop")
    assert link_chain(tmp_path / "loop") == [] and link_chain(tmp_path / "absent") == []
