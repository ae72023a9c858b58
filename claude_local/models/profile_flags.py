"""llama-server's flags in a profile: the lower-case keys and EXTRA_ARGS, checked and in this build's spelling. Pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from claude_local.models.profile import known_flags
from claude_local.server.flags import Flag

SCHEMA = json.loads((Path(__file__).parent / "profile.schema.json").read_text(encoding="utf-8"))

# Keys of older hand-made setups whose llama-server flag has another name (nerdpudding/llama_cpp's .env and compose
# file).
RENAMED = {"KV_CACHE_TYPE_K": "cache-type-k", "KV_CACHE_TYPE_V": "cache-type-v", "TEMPERATURE": "temp"}

# Old ways to say how weights are loaded; together they name one load-mode (--load-mode of b11434, --help).
LOAD_MODES = {
    frozenset[str](): None,
    frozenset({"mmap"}): "mmap",
    frozenset({"no-mmap"}): "none",
    frozenset({"mlock"}): "mmap+mlock",
    frozenset({"mmap", "mlock"}): "mmap+mlock",
    frozenset({"no-mmap", "mlock"}): "mlock",
    frozenset({"direct-io"}): "dio",
    frozenset({"no-mmap", "direct-io"}): "dio",
}
# Switches of older builds that take a value now: flag -> the value that the bare switch meant.
FORMER_SWITCHES = {"flash-attn": "on"}
LOAD_FLAGS = {
    "mmap": "mmap",
    "no-mmap": "no-mmap",
    "mlock": "mlock",
    "direct-io": "direct-io",
    "dio": "direct-io",
    "no-direct-io": "",
    "ndio": "",
}
# What llama-server's INI reader takes for the start of a comment, anywhere in a value (tested on b11434).
COMMENT_SIGNS = ";#"


class Section:
    """One section of models.conf while its keys are read. ``problem`` collects what is wrong with it."""

    def __init__(self, file: str, name: str, values: Mapping[str, str], problems: list[str]) -> None:
        self.file = file
        self.name = name
        self.values = values
        self.problems = problems
        self.refused: set[str] = set()

    def problem(self, key: str, text: str) -> None:
        """Add a problem with a key."""
        self.refused.add(key)
        self.problems.append(f"{self.file}: [{self.name}] {key}: {text}")

    def get(self, key: str) -> str | None:
        """The value of a key that passed its own check; None when it is absent, empty or refused."""
        value = self.values.get(key, "").strip()
        return value if value and key not in self.refused else None


def _unknown_key(key: str) -> str:
    """The problem with a key that is neither ours nor a flag."""
    flags = known_flags()
    spelling = key.lower().replace("_", "-")
    if key in RENAMED:
        return f"no such key, expected {RENAMED[key]} (llama-server's own name, in small letters)"
    if key.upper() in SCHEMA["properties"] and key != key.upper():
        return f"no such key, expected {key.upper()} (our keys are in capitals)"
    if spelling in flags.removed:
        return f"llama-server no longer takes this flag (build {flags.build}), expected {flags.removed[spelling]}"
    if spelling in flags.by_spelling:
        return f"no such key, expected {spelling} (llama-server's own name, in small letters)"
    close = get_close_matches(key.upper(), SCHEMA["properties"], n=1, cutoff=0.75)
    if key.isupper() and close:
        return f"no such key, did you mean {close[0]}?"
    suggestion = flags.suggestion(spelling)
    if suggestion:
        return f"no such key or flag of llama-server (build {flags.build}), did you mean {suggestion}?"
    return f"no such key or flag of llama-server (build {flags.build}), expected one of " + ", ".join(
        SCHEMA["properties"]
    )


def _reservation(flag: Flag) -> str | None:
    """What to use instead of a flag that the deploy owns."""
    for spelling in flag.spellings:
        if spelling in known_flags().reserved:
            return known_flags().reserved[spelling]
    return None


def _read_value(flag: Flag, value: str) -> tuple[str, str | None]:
    """The value of a flag as llama-server must get it, and the problem with it; None without one."""
    instead = _reservation(flag)
    if instead:
        return value, f"not for a profile, use {instead}"
    if flag.two_values:
        return value, "takes two values, which presets of llama-server cannot express; leave it out"
    converted = flag.convert(value)
    if converted is None:
        return value, f"found {value!r}, expected {flag.expected()}"
    for sign in COMMENT_SIGNS:
        if sign in value:
            return value, f"found {value!r}, expected a value without {sign} (llama-server drops the rest as a comment)"
    return converted, None


def read_flags(section: Section) -> dict[str, str]:
    """The lower-case keys: spelling -> value. Problems go to the section."""
    known = known_flags()
    result: dict[str, str] = {}
    keys: dict[str, str] = {}
    for key, raw in section.values.items():
        if key in SCHEMA["properties"]:
            continue
        value = " ".join(raw.split())
        flag = known.by_spelling.get(key)
        if flag is None:
            section.problem(key, _unknown_key(key))
            continue
        value, problem = _read_value(flag, value)
        if problem is None and flag.name in keys:
            problem = f"the same flag as {keys[flag.name]}, expected one of the two"
        if problem:
            section.problem(key, problem)
            continue
        keys[flag.name] = key
        result[key] = value
    return result


def _split(text: str) -> list[str]:
    r"""Split EXTRA_ARGS as a shell does, but a backslash is a letter: ``-ot blk\.1\.=CUDA0`` needs no quotes.

    Raises ValueError when a quotation mark is not closed.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    return list(lexer)


def read_extra_args(section: Section, flags: Mapping[str, str]) -> tuple[str, ...]:
    """EXTRA_ARGS in long flags of this build; flags of former builds are replaced where that is clear.

    ``flags``: the lower-case keys, which must not repeat. Problems go to the section.
    """
    text = section.get("EXTRA_ARGS")
    if text is None:
        return ()
    try:
        argv = _split(text)
    except ValueError as error:
        section.problem("EXTRA_ARGS", f"found {text!r}, expected shell words ({error})")
        return ()
    reader = _ExtraArgs(section, {known_flags().by_spelling[key].name for key in flags})
    while argv:
        reader.read_flag(argv)
    result = (*reader.result, *reader.load_mode())
    return () if "EXTRA_ARGS" in section.refused else result


class _ExtraArgs:
    """Reads EXTRA_ARGS flag by flag. ``given``: the names of the flags there are, as keys or here."""

    def __init__(self, section: Section, given: set[str]) -> None:
        self.section = section
        self.given = given
        self.result: list[str] = []
        self.loading: set[str] = set()

    def problem(self, text: str) -> None:
        self.section.problem("EXTRA_ARGS", text)

    def read_flag(self, argv: list[str]) -> None:
        """Take one flag with its value from the front of ``argv``."""
        word = argv.pop(0)
        spelling = word.lstrip("-").replace("_", "-")
        if not word.startswith("-") or not spelling:
            self.problem(f"found {word!r}, expected a flag (quote a value that holds a space)")
        elif spelling in LOAD_FLAGS:
            self.loading.add(LOAD_FLAGS[spelling])
        elif spelling not in known_flags().by_spelling:
            self.problem(_unknown_flag(word, spelling))
            # Its values, whatever they are, are no flags.
            while argv and not argv[0].startswith("-"):
                argv.pop(0)
        else:
            self.add(word, spelling, known_flags().by_spelling[spelling], argv)

    def add(self, word: str, spelling: str, flag: Flag, argv: list[str]) -> None:
        """Add a known flag with the value that follows it."""
        value = "on"
        if flag.hint is not None:
            taken = self.take_value(word, flag, argv)
            if taken is None:
                return
            value = taken
        value, problem = _read_value(flag, value)
        if flag.name in self.given and not _reservation(flag):
            problem = "given twice, expected it once (several values are joined with commas)"
        if problem:
            self.problem(f"{word}: {problem}")
            return
        self.given.add(flag.name)
        self.result.append("--" + (flag.negated[-1] if spelling in flag.negated else flag.name))
        if flag.hint is not None:
            self.result.append(value)

    def take_value(self, word: str, flag: Flag, argv: list[str]) -> str | None:
        """The value at the front of ``argv``; for a former switch the value that it meant. None with a problem."""
        if not argv or (argv[0].startswith("-") and not re.match(r"-\.?\d", argv[0])):
            if flag.name in FORMER_SWITCHES:
                return FORMER_SWITCHES[flag.name]
            self.problem(f"found nothing after {word}, expected {flag.expected()}")
            return None
        value = argv.pop(0)
        if flag.two_values and argv:
            argv.pop(0)
        return value

    def load_mode(self) -> tuple[str, ...]:
        """--load-mode for the former flags about loading; nothing without any."""
        loading = self.loading - {""}
        if not loading:
            return ()
        former = " ".join(f"--{flag}" for flag in sorted(loading))
        mode = LOAD_MODES.get(frozenset(loading))
        if "load-mode" in self.given:
            self.problem(f"found {former} next to load-mode, expected only load-mode")
        elif mode is None:
            choices = ", ".join(known_flags().by_spelling["load-mode"].choices)
            self.problem(f"found {former}, expected --load-mode with one of {choices}")
        return ("--load-mode", mode) if mode is not None else ()


def _unknown_flag(word: str, spelling: str) -> str:
    """The problem with a flag that this build does not have."""
    known = known_flags()
    name, equals, _ = spelling.partition("=")
    if equals and name in known.by_spelling:
        return f"found {word!r}, expected a space instead of ="
    if spelling in known.removed:
        return f"llama-server no longer takes {word} (build {known.build}), expected {known.removed[spelling]}"
    suggestion = known.suggestion(spelling)
    meant = f", did you mean --{suggestion}?" if suggestion else ""
    return f"llama-server has no flag {word} (build {known.build}){meant}"
