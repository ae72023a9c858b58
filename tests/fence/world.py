"""A home, a workspace and a repository, for the tests of the survey."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from claude_local.fence.credentials import hide, keep_programs
from claude_local.fence.plan import Fence
from claude_local.fence.prepare import survey_workspaces
from claude_local.fence.survey import Places, Survey


def git(*words: str | Path, cwd: Path | None = None) -> None:
    """Run git without the user's configuration."""
    env = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        **{f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    always = ["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *always, *words], cwd=cwd, env=env, check=True, capture_output=True)


def repository(path: Path) -> Path:
    """Make a repository with one commit at ``path``."""
    git("init", path)
    (path / "README").write_text("x")
    git("add", "README", cwd=path)
    git("commit", "-m", "x", cwd=path)
    return path


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class World:
    """A home, claude-local's own directories in it, and a workspace below it."""

    def __init__(self, tmp_path: Path) -> None:
        self.base = Path(os.path.realpath(tmp_path))
        self.home = self.base / "home"
        self.workspace = self.home / "projects" / "one"
        self.workspace.mkdir(parents=True)
        self.config_dir = self.home / ".claude-local"
        self.config_dir.mkdir()
        self.share = self.home / ".local" / "share" / "claude-local"
        self.share.mkdir(parents=True)
        self.places = Places(str(self.home), str(self.config_dir), [str(self.config_dir), str(self.share)], [])

    def hide(self, hidden: list[str] | None = None, visible: list[str] | None = None) -> Fence:
        survey = Survey()
        hide(survey, self.places, hidden or [], visible or [])
        return survey.fence

    def survey(self, workspace: Path | None = None, stubs: list[str] | None = None) -> Survey:
        """The whole survey for a session in ``workspace``."""
        survey = Survey()
        keep_programs(survey, self.places)
        hide(survey, self.places, [], [])
        outside = survey_workspaces(survey, [str(workspace or self.workspace)], self.places, stubs or [])
        survey.settle([*survey.fence.rw_bind, *outside])
        return survey

    def guarded(self, workspace: Path | None = None) -> set[str]:
        """The paths that a session cannot write, relative to the home directory."""
        fence = self.survey(workspace).fence
        paths = [*fence.ro_bind, *fence.stub_directories, *fence.stub_files]
        return {os.path.relpath(path, self.home) for path in paths}

    def writable(self, workspace: Path | None = None) -> set[str]:
        """The directories that a session may write."""
        fence = self.survey(workspace).fence
        return {*fence.rw_bind, *fence.self_bind, *fence.nested_rw_bind}


def all_paths(fence: Fence) -> list[str]:
    """The paths that are bound on themselves, and the stubs."""
    names = ("rw_bind", "self_bind", "ro_bind", "nested_rw_bind", "stub_directories", "stub_files")
    return [path for name in names for path in getattr(fence, name)]
