"""The state of the runtime on the workstation: its files and its venv."""

from __future__ import annotations

from pyinfra.api import FactBase, StringCommand

from claude_local.deploy import shell


class RuntimeStamp(FactBase[dict[str, str]]):
    """What the runtime was made from: ``{"files": sha256 of the copied files, "venv": stamp}``.

    ``files`` is computed from the files below ``lib`` (sorted ``sha256sum`` lines), so a damaged copy is noticed.
    ``venv`` is the stamp that the last complete installation wrote, missing when its interpreter does not start.
    """

    def command(self, lib: str, venv: str) -> StringCommand:
        script = (
            'cd "$1" 2>/dev/null && echo "files $(find . -type f ! -name "*.pyc" | LC_ALL=C sort | '
            "xargs -r -d '\\n' sha256sum | sha256sum | cut -d' ' -f1)\"; "
            '"$2/bin/python" -I -c "import claude_local, requests" >/dev/null 2>&1 '
            '&& echo "venv $(cat "$2/claude-local.stamp" 2>/dev/null)"; true'
        )
        return shell.script(script, lib, venv)

    def process(self, output: list[str]) -> dict[str, str]:
        return dict(line.split(" ", 1) for line in output if " " in line)

    @staticmethod
    def default() -> dict[str, str]:
        """A machine without the runtime."""
        return {}
