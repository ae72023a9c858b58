"""The claude-local command and how it gets onto PATH, as text. No pyinfra, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from posixpath import dirname, join

from jinja2 import Environment, StrictUndefined

from claude_local.paths import Paths

BEGIN = "# >>> claude-local >>>"
END = "# <<< claude-local <<<"
# Where the programs are that the wrapper itself runs.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def render_wrapper(template: str, **values: str | int) -> str:
    """The wrapper's text; ``values`` are raw, the template quotes them for the shell (filter ``quote``).

    Raises jinja2.UndefinedError when the template asks for a value that is not given.
    """
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["quote"] = shell_quoted
    return environment.from_string(template).render(**values)


def render_claude_local(template: str, paths: Paths, **values: str | int) -> str:
    """templates/claude-local for a home with ``paths``; ``values``: what those do not say (server, container,
    start_timeout), and what is to be otherwise."""
    known: dict[str, str | int] = {
        "token": paths.token,
        "profiles": paths.profiles,
        "config_dir": paths.config_dir,
        "enforced_settings": paths.enforced_settings,
        "bash_env": paths.bash_env,
        "claude": paths.claude,
        "native_claude": paths.native_claude,
        "python": paths.python,
        "launcher": paths.fence_launcher,
        "fence_config": paths.fence_config,
        "fence_state": paths.fence_state,
        "sandbox_bin": paths.sandbox_bin,
        "home": paths.home,
        "own_directories": shell_words([paths.share, paths.bin_dir, dirname(paths.token)]),
        "system_path": SYSTEM_PATH,
    }
    return render_wrapper(template, **known | values)


def shell_quoted(value: str | int) -> str:
    """``value`` in single quotes, also where sh would not need them."""
    return "'" + str(value).replace("'", "'\\''") + "'"


def shell_words(values: Iterable[str]) -> str:
    """``values`` as words of a shell command."""
    return " ".join(shell_quoted(value) for value in values)


@dataclass(frozen=True)
class ShellStartup:
    """What is on the workstation: which start-up files there are, and which shells."""

    existing: frozenset[str]
    shells: frozenset[str]


def posix_block(directory: str, home: str) -> str:
    """The marked lines that put ``directory`` first on PATH, once, for sh, bash and zsh."""
    word = _in_double_quotes(directory, home)
    return (
        f"{BEGIN}\n"
        "# Puts the claude-local command on PATH; written by tasks/commands.py.\n"
        'case ":$PATH:" in\n'
        f'*":{word}:"*) ;;\n'
        f'*) export PATH="{word}:$PATH" ;;\n'
        "esac\n"
        f"{END}\n"
    )


def fish_file(directory: str, home: str) -> str:
    """The whole of fish's conf.d/claude-local.fish."""
    word = _in_double_quotes(directory, home)
    return (
        "# Puts the claude-local command on PATH; written by tasks/commands.py.\n"
        f'if not contains -- "{word}" $PATH\n'
        f'    set -gx PATH "{word}" $PATH\n'
        "end\n"
    )


def _in_double_quotes(directory: str, home: str) -> str:
    inside = directory == home or directory.startswith(home + "/")
    rest = directory[len(home) :] if inside else directory
    for special in ("\\", '"', "$", "`"):
        rest = rest.replace(special, "\\" + special)
    return "$HOME" + rest if inside else rest


def block_files(home: str, seen: ShellStartup) -> list[str]:
    """The files that get the marked block: each shell's interactive file and its login file.

    A login bash reads the first of .bash_profile, .bash_login and .profile, and only that. zsh counts when it is
    installed or configured; a login zsh that runs one command (``su - USER -c``, a desktop's launcher) reads .zprofile
    alone.
    """
    login = [join(home, name) for name in (".bash_profile", ".bash_login", ".profile")]
    files = [join(home, ".bashrc"), next((path for path in login if path in seen.existing), login[-1])]
    zsh = [join(home, name) for name in (".zshrc", ".zprofile")]
    if "zsh" in seen.shells or any(path in seen.existing for path in zsh):
        files += zsh
    return files


def fish_path(home: str, seen: ShellStartup) -> str | None:
    """Where fish's file goes; None when fish is neither installed nor configured."""
    configured = join(home, ".config", "fish")
    return (
        join(configured, "conf.d", "claude-local.fish")
        if "fish" in seen.shells or configured in seen.existing
        else None
    )


def candidates(home: str) -> list[str]:
    """Every path whose presence decides what :func:`block_files` and :func:`fish_path` answer."""
    names = (".bashrc", ".bash_profile", ".bash_login", ".profile", ".zshrc", ".zprofile", join(".config", "fish"))
    return [join(home, name) for name in names]


def with_block(text: str, block: str) -> str:
    """``text`` with ``block`` in it exactly once: replaced where it stands, else appended after an empty line.

    What the user wrote is kept byte for byte. A begin mark without its end mark is left alone and a block is appended.
    """
    before, begin, rest = text.partition(BEGIN + "\n")
    old, end, after = rest.partition(END + "\n")
    if not begin or (not end and not rest.endswith(END)) or BEGIN in old:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return text if block in text else text + gap + block
    return before + block + _without_blocks(after)


def _without_blocks(text: str) -> str:
    """``text`` without further marked blocks."""
    while BEGIN + "\n" in text:
        before, _, rest = text.partition(BEGIN + "\n")
        _, end, after = rest.partition(END + "\n")
        if not end:
            break
        text = before + after
    return text
