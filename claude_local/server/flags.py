"""The command-line flags of the pinned llama-server build, and the ones that a profile cannot use.

flags.json holds three parts. ``flags`` is generated from the build. The other two are written by hand and kept:

* ``removed``: flags of former builds that this one refuses, with the replacement. Profiles written for an older
  llama-server still have them; claude_local/models/profile_flags.py replaces or reports them.
* ``reserved``: flags of this build that the deploy sets itself, with the key or setting to use instead.

To generate ``flags`` anew for another build:

    llama-server --help | python -m claude_local.server.flags BUILD
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "flags.json"

# The values that llama-server accepts for a switch (common/arg.cpp, is_truthy and is_falsey).
TRUE = frozenset({"on", "enabled", "true", "1"})
FALSE = frozenset({"off", "disabled", "false", "0"})

# Flags that take these words besides a number, though --help only shows "N" for their value.
WORDS = {
    "n-gpu-layers": ("auto", "all"),
    "n-gpu-layers-draft": ("auto", "all"),
}

# The flags with an "N" that may be a fraction (std::stof in common/arg.cpp). llama-server reads all others with
# std::stoi, which stops at the first letter: it takes 1e3 for 1.
FRACTIONS = frozenset({
    "rope-scale", "rope-freq-base", "rope-freq-scale", "yarn-ext-factor", "yarn-attn-factor", "yarn-beta-slow",
    "yarn-beta-fast", "defrag-thold", "temperature", "top-p", "min-p", "top-n-sigma", "xtc-probability",
    "xtc-threshold", "typical-p", "repeat-penalty", "presence-penalty", "frequency-penalty", "dry-multiplier",
    "dry-base", "adaptive-target", "adaptive-decay", "dynatemp-range", "dynatemp-exp", "mirostat-lr", "mirostat-ent",
    "video-fps", "video-timestamp-interval",
})  # fmt: skip
# The biggest float and the biggest int of C++. std::stof and std::stoi end llama-server on a bigger number.
BIGGEST_FRACTION = Decimal("3.4e38")
BIGGEST_WHOLE = 2**31 - 1
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Flag:
    """One option of llama-server.

    * ``name``: its last positive spelling, which is the long name, without dashes
    * ``hint``: the placeholder of its value in ``--help``; None for a switch
    * ``spellings``, ``negated``: the spellings that set it, and those that switch it off (``no-kv-offload``)
    * ``choices``: the allowed values; empty when ``--help`` does not list them
    * ``two_values``: whether it takes two values, which a preset cannot express
    """

    name: str
    hint: str | None
    spellings: tuple[str, ...]
    negated: tuple[str, ...]
    choices: tuple[str, ...]
    two_values: bool

    def expected(self) -> str:
        """The allowed values, for a message."""
        if self.hint is None:
            return "on or off"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.hint == "N":
            number = "a number" if self.name in FRACTIONS else "a whole number"
            return " or ".join((number, *WORDS.get(self.name, ())))
        return f"a value ({self.hint})"

    def convert(self, value: str) -> str | None:
        """``value`` as llama-server must get it: a whole number without a point or an exponent.

        None when llama-server does not accept it, as far as ``--help`` tells.
        """
        if self.hint is None:
            accepted = value in TRUE or value in FALSE
        elif self.choices:
            accepted = value in self.choices
        elif self.hint == "N" and value not in WORDS.get(self.name, ()):
            return self._number(value)
        else:
            accepted = value != ""
        return value if accepted else None

    def _number(self, value: str) -> str | None:
        """A number in range; a whole one where llama-server reads no fraction."""
        if not NUMBER.fullmatch(value):
            return None
        number = Decimal(value)
        if self.name in FRACTIONS:
            return value if abs(number) <= BIGGEST_FRACTION else None
        if abs(number) > BIGGEST_WHOLE or number != int(number):
            return None
        return str(int(number))


@dataclass(frozen=True)
class Flags:
    """The flags of one build, by spelling without dashes. ``removed`` and ``reserved`` say what to use instead."""

    build: int
    by_spelling: dict[str, Flag]
    removed: dict[str, str]
    reserved: dict[str, str]

    def suggestion(self, spelling: str) -> str | None:
        """The flag that a misspelling most likely means, or None."""
        names = [name for name in self.by_spelling if len(name) > 3 and name not in self.reserved]
        close = get_close_matches(spelling, names, n=1, cutoff=0.75)
        return close[0] if close else None


def load(path: Path = DATA) -> Flags:
    """The flags of the pinned build."""
    data = json.loads(path.read_text(encoding="utf-8"))
    by_spelling: dict[str, Flag] = {}
    for name, entry in data["flags"].items():
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
    return Flags(data["build"], by_spelling, data["removed"], data["reserved"])


_NAME = r"-{1,2}[A-Za-z][\w.-]*"
# Descriptions start at this column. Names and hint that are longer push the description to the next line.
_COLUMN = 40


def parse_help(text: str) -> dict[str, dict[str, Any]]:
    """The flags in the output of ``llama-server --help``, as flags.json holds them, without the removed ones."""
    flags = {}
    for entry in re.split(rf"\n(?={_NAME})", "\n" + text)[1:]:
        names = re.match(rf"{_NAME}(,\s+{_NAME})*", entry)
        assert names is not None
        first_line, _, rest = entry.partition("\n")
        if len(first_line) > _COLUMN and not first_line[_COLUMN - 2 : _COLUMN].strip():
            hint, description = first_line[names.end() : _COLUMN].strip(), f"{first_line[_COLUMN:]} {rest}"
        else:
            hint, description = first_line[names.end() :].strip(), rest
        description = " ".join(description.split())
        if "the argument has been removed" not in description:
            flag = _flag([spelling.strip() for spelling in names[0].split(",")], hint, description)
            flags[flag["spellings"][-1]] = flag
    return flags


def _flag(spellings: list[str], hint: str, description: str) -> dict[str, Any]:
    """An entry of flags.json from the spellings (with dashes), the value's placeholder and the text in --help."""
    split = next((i for i, spelling in enumerate(spellings) if spelling.startswith("--no-")), 0)
    if split:
        # A short spelling right before the first --no-... belongs to it: -nkvo, --no-kv-offload.
        while split > 1 and not spellings[split - 1].startswith("--"):
            split -= 1
    positive, negated = (spellings[:split], spellings[split:]) if split else (spellings, [])
    # "-fit, --fit" is one spelling. A dictionary keeps the order.
    flag: dict[str, Any] = {"spellings": list(dict.fromkeys(spelling.lstrip("-") for spelling in positive))}
    if negated:
        flag["negated"] = [spelling.lstrip("-") for spelling in negated]
    if hint:
        flag["value"] = hint
        if choices := _choices(hint, description):
            flag["choices"] = choices
        if re.fullmatch(r"[A-Z]+ [A-Z]+", hint):
            flag["two_values"] = True
    return flag


def _choices(hint: str, description: str) -> list[str]:
    """The allowed values as the hint (``[on|off]``), or the description ("allowed values: ...", a list) names them."""
    listed = re.fullmatch(r"\[([\w|-]+)\]|\{([\w,-]+)\}|<([\w|-]+)>", hint)
    if listed:
        return re.split(r"[|,]", listed[1] or listed[2] or listed[3])
    allowed = re.search(r"allowed values: ((?:[\w-]+, )+[\w-]+)", description)
    if allowed:
        return allowed[1].split(", ")
    if re.fullmatch(r"[A-Z]+", hint):
        return re.findall(r"(?:^|\s)- ([\w+-]+)(?: \(default\))?: ", description)
    return []


def main() -> int:
    """Replace the part ``flags`` of flags.json by the flags in ``--help`` on stdin."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print("usage: llama-server --help | python -m claude_local.server.flags BUILD", file=sys.stderr)
        return 2
    kept = json.loads(DATA.read_text(encoding="utf-8"))
    data = {
        "build": int(sys.argv[1]),
        "removed": kept["removed"],
        "reserved": kept["reserved"],
        "flags": parse_help(sys.stdin.read()),
    }
    text = json.dumps(data, indent=1, ensure_ascii=False)
    # One line for each flag keeps the diff between two builds readable.
    text = re.sub(r"\n {3,}", " ", re.sub(r"\n {2}(?=[}\]])", " ", text))
    DATA.write_text(text + "\n", encoding="utf-8")
    print(f"{DATA.name}: {len(data['flags'])} flags of build {data['build']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
