"""Which command-line flags the pinned llama-server build takes, and what became of those that it no longer takes.

The data is in flags.json. Its part ``flags`` is made from the build itself; the parts ``removed`` and ``reserved``
are kept by hand and survive. To make it anew after a change of build:

    llama-server --help | python -m claude_local.server.flags BUILD
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "flags.json"

TRUE = frozenset({"on", "enabled", "true", "1"})
FALSE = frozenset({"off", "disabled", "false", "0"})

# Flags whose hint is "N" and which take words too (llama-server --help).
WORDS = {
    "n-gpu-layers": ("auto", "all"),
    "n-gpu-layers-draft": ("auto", "all"),
}


@dataclass(frozen=True)
class Flag:
    """One option of llama-server. ``name`` is its canonical long name without dashes.

    ``hint`` is the placeholder of its value in ``--help``, None for a switch. ``negated`` are the spellings that switch
    it off. ``choices`` are the values allowed, empty when they are not listed.
    """

    name: str
    hint: str | None
    spellings: tuple[str, ...]
    negated: tuple[str, ...]
    choices: tuple[str, ...]
    two_values: bool

    def expected(self) -> str:
        """What its value may be, in words."""
        if self.hint is None:
            return "on or off"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.hint == "N":
            return " or ".join(("a number", *WORDS.get(self.name, ())))
        return f"a value ({self.hint})"

    def accepts(self, value: str) -> bool:
        """Whether llama-server's parser would take ``value``, as far as ``--help`` tells."""
        if self.hint is None:
            return value in TRUE or value in FALSE
        if self.choices:
            return value in self.choices
        if self.hint == "N":
            return value in WORDS.get(self.name, ()) or re.fullmatch(r"-?\d+(\.\d+)?([eE]-?\d+)?", value) is not None
        return value != ""


@dataclass(frozen=True)
class Flags:
    """The flags of one build. ``removed`` and ``reserved`` map a spelling without dashes to what to do instead."""

    build: int
    by_spelling: dict[str, Flag]
    removed: dict[str, str]
    reserved: dict[str, str]

    def suggestion(self, spelling: str) -> str | None:
        """The long name nearest to a misspelt one."""
        names = [name for name, flag in self.by_spelling.items() if len(name) > 3 and name not in self.reserved]
        close = get_close_matches(spelling, names, n=1, cutoff=0.75)
        return close[0] if close else None


def load(path: Path = DATA) -> Flags:
    """The flags of the pinned build."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    by_spelling: dict[str, Flag] = {}
    for name, entry in raw["flags"].items():
        flag = Flag(
            name=name,
            hint=entry.get("value"),
            spellings=tuple(entry["spellings"]),
            negated=tuple(entry.get("negated", ())),
            choices=tuple(entry.get("choices", ())),
            two_values=entry.get("two_values", False),
        )
        for spelling in (*flag.spellings, *flag.negated):
            by_spelling[spelling] = flag
    return Flags(raw["build"], by_spelling, raw["removed"], raw["reserved"])


def _choices(hint: str, description: str) -> list[str]:
    listed = re.fullmatch(r"\[([\w|-]+)\]|\{([\w,-]+)\}|<([\w|-]+)>", hint)
    if listed:
        return re.split(r"[|,]", listed[1] or listed[2] or listed[3])
    allowed = re.search(r"allowed values: ((?:[\w-]+, )+[\w-]+)", description)
    if allowed:
        return allowed[1].split(", ")
    if re.fullmatch(r"[A-Z]+", hint):
        return re.findall(r"(?:^|\s)- ([\w+-]+)(?: \(default\))?: ", description)
    return []


def parse_help(text: str) -> dict[str, dict[str, Any]]:
    """The flags in the output of ``llama-server --help``, as flags.json holds them; without the removed ones."""
    flags: dict[str, dict[str, Any]] = {}
    name = r"-{1,2}[A-Za-z][\w.-]*"
    for entry in re.split(rf"\n(?={name})", "\n" + text)[1:]:
        names = re.match(rf"{name}(,\s+{name})*", entry)
        if names is None:
            continue
        head, _, rest = entry.partition("\n")
        # The description starts at column 40, on the next line when the names and the hint are longer than that.
        if len(head) > 40 and not head[38:40].strip():
            hint, description = head[names.end() : 40].strip(), f"{head[40:]} {rest}"
        else:
            hint, description = head[names.end() :].strip(), rest
        description = " ".join(description.split())
        if "the argument has been removed" in description:
            continue
        spellings = [spelling.strip() for spelling in names[0].split(",")]
        negative = next((i for i, spelling in enumerate(spellings) if spelling.startswith("--no-")), len(spellings))
        if 0 < negative < len(spellings):
            # A short spelling right before the first --no-... belongs to it: -nkvo, --no-kv-offload.
            while negative > 1 and not spellings[negative - 1].startswith("--"):
                negative -= 1
        else:
            negative = len(spellings)
        # "-fit, --fit" is one spelling; the order is kept.
        positive = list(dict.fromkeys(spelling.lstrip("-") for spelling in spellings[:negative]))
        found: dict[str, Any] = {"spellings": positive}
        if spellings[negative:]:
            found["negated"] = [spelling.lstrip("-") for spelling in spellings[negative:]]
        if hint:
            found["value"] = hint
            choices = _choices(hint, description)
            if choices:
                found["choices"] = choices
            if re.fullmatch(r"[A-Z]+ [A-Z]+", hint):
                found["two_values"] = True
        flags[positive[-1]] = found
    return flags


def main() -> int:
    """Write flags.json from ``--help`` on stdin; the hand-kept parts stay as they are."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print("usage: llama-server --help | python -m claude_local.server.flags BUILD", file=sys.stderr)
        return 2
    old = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {"removed": {}, "reserved": {}}
    new = {
        "build": int(sys.argv[1]),
        **{k: old[k] for k in ("removed", "reserved")},
        "flags": parse_help(sys.stdin.read()),
    }
    lines = json.dumps(new, indent=1, ensure_ascii=False)
    # One flag a line keeps the diff between two builds readable.
    lines = re.sub(r"\n {3,}", " ", re.sub(r"\n {2}(?=[}\]])", " ", lines))
    DATA.write_text(lines + "\n", encoding="utf-8")
    print(f"{DATA.name}: {len(new['flags'])} flags of build {new['build']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
