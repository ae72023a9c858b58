"""The model files on the workstation."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    """The answer of ``placement check``: {"ok": bool, "files": [...]}, or None before the runtime is installed.

    It takes about 0.2 s and reads no model.

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


# Prints "size BYTES NAME" for each name (a line of $2) that exists below one of the roots, whole or in part. Then the
# runtime's interpreter $1 prints what the headers of the names in $3 say.
FILES = r"""
python=$1; names=$2; unknown=$3; shift 3
printf '%s\n' "$names" | while IFS= read -r name; do
  for root do
    for file in "$root/$name" "$root/${name##*/}"; do
      if size=$(stat -Lc %s "$file" 2>/dev/null || stat -c %s "$file.part" 2>/dev/null); then
        echo "size $size $name"
        break 2
      fi
    done
  done
done
if test -n "$unknown" && test -x "$python"; then
  printf '%s\n' "$unknown" | "$python" -I -m claude_local.models.shapes "$@" 2>/dev/null
fi
true
"""


class ModelFiles(FactBase[dict[str, dict[str, Any]]]):
    """The model files that exist: {"sizes": {name: bytes}, "shapes": {name: what its header says}}.

    + python: the runtime's interpreter; without it there are no shapes
    + roots: model_dir and the search directories
    + names: file names of all profiles
    + unknown: first files of the profiles whose shape models.conf does not give
    """

    def command(self, python: str, roots: Sequence[str], names: Sequence[str], unknown: Sequence[str]) -> StringCommand:
        lists = ["\n".join(dict.fromkeys(each)) for each in (names, unknown)]
        return shell.script(FILES, python, *lists, *roots)

    def process(self, output: list[str]) -> dict[str, dict[str, Any]]:
        result = self.default()
        for line in output:
            tag, _, rest = line.partition(" ")
            size, _, name = rest.partition(" ")
            if tag == "size" and size.isdigit():
                result["sizes"][name] = int(size)
            elif line.startswith("{"):
                try:
                    answer = json.loads(line)
                except ValueError:
                    continue
                result["shapes"].update(answer if isinstance(answer, dict) else {})
        return result

    @staticmethod
    def default() -> dict[str, dict[str, Any]]:
        """No files."""
        return {"sizes": {}, "shapes": {}}
