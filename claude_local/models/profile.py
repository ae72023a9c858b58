"""A checked profile: one section of models.conf. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache

from claude_local.server import flags as llama_flags


@cache
def known_flags() -> llama_flags.Flags:
    """The flags of the pinned llama-server build."""
    return llama_flags.load()


@dataclass(frozen=True)
class ModelFile:
    """One GGUF file.

    ``name`` is relative to model_dir, or absolute. ``size`` is in bytes. ``sources`` are lines of the grammar in
    :mod:`claude_local.models.sources`. A file without ``sha256`` is on the disk already, or has a hub among its
    sources: then models.lock has its sha256 (:mod:`claude_local.models.lock`).
    """

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

    ``model``: the main GGUF, or the first part of a split model. ``files``: its parts in order, then ``mmproj``.
    ``ctx_size``: tokens, None for the model's own. ``fit_target``: MiB. ``tools``: see
    :func:`claude_local.claude.tool_sets.tool_set`. ``architecture``: a record of
    architectures.json. ``about_size``: bytes of all files whose SIZE is not known. ``cpu``: it may be chosen without a
    GPU, in spite of its MIN_VRAM. ``extra_args``: EXTRA_ARGS in long flags of this build. ``flags``: the lower-case
    keys. :attr:`options` has both as preset keys.
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
    tools: str
    flags: dict[str, str]
    minimum_vram_mib: int | None
    architecture: str | None = None
    about_size: int | None = None
    cpu: bool = False

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
        """The files whose sha256 the hub gives at the first download; models.lock keeps it."""
        return tuple(file for file in self.files if file.sha256 is None and file.hub is not None)

    @property
    def options(self) -> dict[str, str]:
        """EXTRA_ARGS and the lower-case keys as preset options: canonical flag name -> value."""
        options: dict[str, str] = {}
        args = list(self.extra_args)
        while args:
            flag = args.pop(0)
            known = known_flags().by_spelling[flag.lstrip("-")]
            if known.hint is None:
                options[known.name] = "false" if flag.lstrip("-") in known.negated else "true"
            else:
                options[known.name] = args.pop(0)
        for key, value in self.flags.items():
            known = known_flags().by_spelling[key]
            if known.hint is None:
                on = (value in llama_flags.TRUE) != (key in known.negated)
                value = "true" if on else "false"
            options[known.name] = value
        return options

    def without(self, names: Collection[str]) -> Profile:
        """The profile without these flags (canonical names), in EXTRA_ARGS and among the lower-case keys."""
        known = known_flags().by_spelling
        kept: list[str] = []
        args = list(self.extra_args)
        while args:
            flag = known[args[0].lstrip("-")]
            length = 1 if flag.hint is None else 2
            if flag.name not in names:
                kept += args[:length]
            args = args[length:]
        flags = {key: value for key, value in self.flags.items() if known[key].name not in names}
        return replace(self, extra_args=tuple(kept), flags=flags)
