"""A watch on a workspace, as the launcher makes it."""

from __future__ import annotations

import os
from pathlib import Path

from claude_local.fence.prepare import survey_workspaces
from claude_local.fence.survey import Places, Survey
from claude_local.fence.watch import Watch


def start_watch(workspace: Path) -> Watch:
    """The watch of a session in ``workspace``, when it has looked at what exists."""
    survey = Survey()
    home = str(workspace.parent / "home")
    survey_workspaces(survey, [str(workspace)], Places(home, home, [], []), [])
    watch = Watch([str(workspace)], survey.forbidden, survey.symlinks, survey.repositories, survey.unguarded)
    watch.start()
    watch._survey.join()
    return watch


def renamed(watch: Watch) -> set[str]:
    """The files that were renamed when the session has ended."""
    return {path for path, reason, new_path in watch.stop() if reason and os.path.lexists(new_path)}
