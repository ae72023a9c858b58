"""Whether the model files are in place on the workstation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.deploy import shell


def placement(command: str, python: str, plan: dict[str, Any], *options: str) -> StringCommand:
    """``printf PLAN | python -m claude_local.models.placement COMMAND``: the plan travels on standard input."""
    text = json.dumps(plan, sort_keys=True, ensure_ascii=True)
    return StringCommand(
        "printf %s", QuoteString(text), "|", QuoteString(python), "-m claude_local.models.placement", command, *options
    )


class PlacementCheck(FactBase[dict[str, Any] | None]):
    """What ``placement check`` says: {"ok": bool, "files": [...]}; None while the runtime is not there yet.

    Costs about 0.2 s; no file is read. + python: the runtime's interpreter + plan: ``placement_plan.plan_data``
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
        return None


class Placements(FactBase[dict[str, Any]]):
    """models.json (``ws.paths.placements``): where each placed profile's files are; empty while nothing is placed.

    + path: of models.json
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
        return {}


# Prints "size BYTES NAME" for each name (a line of $2) that is below one of the roots, a part of a download too; then what
# the headers of the names in $3 say, by the runtime's interpreter $1.
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
  printf '%s\n' "$unknown" | "$python" -m claude_local.models.shapes "$@" 2>/dev/null
fi
true
"""


class ModelFiles(FactBase[dict[str, dict[str, Any]]]):
    """Which model files are there: {"sizes": {name: bytes}, "shapes": {name: what its header says}}.

    + python: the runtime's interpreter (without it there are no shapes) + roots: model_dir and the search directories
    + names: of the profiles' files + unknown: the first files of profiles whose shape is not known otherwise
    """

    def command(self, python: str, roots: Sequence[str], names: Sequence[str], unknown: Sequence[str]) -> StringCommand:
        lists = ["\n".join(dict.fromkeys(each)) for each in (names, unknown)]
        return shell.script(FILES, python, *lists, *roots)

    def process(self, output: list[str]) -> dict[str, dict[str, Any]]:
        found = self.default()
        for line in output:
            tag, _, rest = line.partition(" ")
            size, _, name = rest.partition(" ")
            if tag == "size" and size.isdigit():
                found["sizes"][name] = int(size)
            elif line.startswith("{"):
                try:
                    answer = json.loads(line)
                except ValueError:
                    continue
                found["shapes"].update(answer if isinstance(answer, dict) else {})
        return found

    @staticmethod
    def default() -> dict[str, dict[str, Any]]:
        return {"sizes": {}, "shapes": {}}
