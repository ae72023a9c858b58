"""The model files on the workstation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from posixpath import basename, join
from typing import Any

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.deploy import shell


def placement(command: str, python: str, plan: dict[str, Any], *options: str) -> StringCommand:
    """``printf PLAN | python -m claude_local.models.placement COMMAND``: the program reads the plan on stdin."""
    text = json.dumps(plan, sort_keys=True, ensure_ascii=True)
    return StringCommand(
        "printf %s", QuoteString(text), "|", QuoteString(python), "-I -m claude_local.models.placement", command,
        *options,
    )  # fmt: skip


class PlacementCheck(FactBase[dict[str, Any] | None]):
    """The answer of ``placement check``: {"ok": bool, "files": [...], "placements": what :class:`Placements` says}, or
    None before the runtime is installed.

    It takes about 0.1 s and reads no model.

    + python: the runtime's interpreter
    + plan: the return value of ``placement_plan.plan_data``
    """

    def command(self, python: str, plan: dict[str, Any]) -> StringCommand:
        return StringCommand(
            "! test -x", QuoteString(python), "||", "{", placement("check", python, plan), "2>/dev/null || true;", "}"
        )

    def process(self, output: list[str]) -> dict[str, Any] | None:
        try:
            answer = json.loads(output[-1])
        except ValueError:
            return None
        return answer if isinstance(answer, dict) and "ok" in answer else None

    @staticmethod
    def default() -> dict[str, Any] | None:
        """No runtime."""
        return None


class Placements(FactBase[dict[str, Any]]):
    """models.json: the files of each placed profile. Empty while nothing is placed.

    + path: ``ws.paths.placements``
    """

    def command(self, path: str) -> StringCommand:
        return StringCommand("! test -r", QuoteString(path), "|| cat", QuoteString(path))

    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            answer = json.loads("\n".join(output))
        except ValueError:
            return {}
        return answer if isinstance(answer, dict) else {}

    @staticmethod
    def default() -> dict[str, Any]:
        """Nothing is placed."""
        return {}


# $1 the runtime's interpreter, $2 how many paths follow, then these paths: "size BYTES PATH" for each that exists. Then
# the names whose headers the interpreter reads, a line each, and the roots to look in.
FILES = r"""
python=$1 count=$2; shift 2
printf '%s\0' "$@" | head -z -n "$count" | xargs -0 -r stat -L -c 'size %s %n' 2>/dev/null
shift "$count"; unknown=$1; shift
if test -n "$unknown" && test -x "$python"; then
  printf '%s\n' "$unknown" | "$python" -I -m claude_local.models.shapes "$@" 2>/dev/null
fi
true
"""


class ModelFiles(FactBase[dict[str, dict[str, Any]]]):
    """The model files that exist, whole or in part: {"sizes": {name: bytes}, "shapes": {name: what its header says}}.

    + python: the runtime's interpreter; without it there are no shapes
    + roots: model_dir and the search directories
    + names: file names of all profiles
    + unknown: first files of the profiles whose shape models.conf does not give
    """

    def command(self, python: str, roots: Sequence[str], names: Sequence[str], unknown: Sequence[str]) -> StringCommand:
        self.places = {name: list(_places(name, roots)) for name in names}
        paths = [path for places in self.places.values() for path in places]
        return shell.script(FILES, python, str(len(paths)), *paths, "\n".join(dict.fromkeys(unknown)), *roots)

    def process(self, output: list[str]) -> dict[str, dict[str, Any]]:
        result = self.default()
        sizes: dict[str, int] = {}
        for line in output:
            if line.startswith("size "):
                _, size, path = line.split(" ", 2)
                sizes[path] = int(size)
            elif line.startswith("{"):
                try:
                    answer = json.loads(line)
                except ValueError:
                    continue
                result["shapes"].update(answer if isinstance(answer, dict) else {})
        for name, places in self.places.items():
            if (place := next((path for path in places if path in sizes), None)) is not None:
                result["sizes"][name] = sizes[place]
        return result

    @staticmethod
    def default() -> dict[str, dict[str, Any]]:
        """No files."""
        return {"sizes": {}, "shapes": {}}


def _places(name: str, roots: Sequence[str]) -> Iterator[str]:
    """Where the file ``name`` may lie, in order of preference: under its name or its last part, whole or in part."""
    for root in roots:
        for path in dict.fromkeys((join(root, name), join(root, basename(name)))):
            yield from (path, f"{path}.part")
