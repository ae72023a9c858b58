"""How a directory gets onto PATH, and llama-local's completion into the shells: which start-up files of bash, zsh and
fish, which lines in them, and where the shells look for completions by themselves. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from posixpath import join

BEGIN = "# >>> claude-local >>>"
END = "# <<< claude-local <<<"
COMMENT = "# Puts the claude-local command on PATH; written by tasks/commands.py."

# The function that click's script defines. The file must have its name: zsh then replaces the file's body by it.
ZSH_FUNCTION = "_llama_local_completion"


@dataclass(frozen=True)
class ShellStartup:
    """A workstation's start-up files that exist (paths), its installed shells (names), and where zsh and fish read.

    ``zsh_directory`` is ZDOTDIR or the home directory, ``fish_directory`` is ``~/.config/fish`` unless XDG_CONFIG_HOME
    is set.
    """

    existing: frozenset[str]
    shells: frozenset[str]
    zsh_directory: str
    fish_directory: str


def candidates(home: str, zsh_directory: str) -> list[str]:
    """Every file that :func:`block_files` looks for in ``ShellStartup.existing``."""
    names = (".bashrc", ".bash_profile", ".bash_login", ".profile")
    return [join(home, name) for name in names] + [join(zsh_directory, name) for name in (".zshrc", ".zprofile")]


def block_files(home: str, startup: ShellStartup) -> list[str]:
    """The files that get the marked block: each shell's interactive file and its login file.

    A login bash reads the first of .bash_profile, .bash_login and .profile, and only that. zsh counts when it is
    installed or configured. A login zsh that runs one command (``su - USER -c``, a desktop's launcher) reads only
    .zprofile.
    """
    login = [join(home, name) for name in (".bash_profile", ".bash_login", ".profile")]
    files = [join(home, ".bashrc"), next((path for path in login if path in startup.existing), login[-1])]
    zsh = [join(startup.zsh_directory, name) for name in (".zshrc", ".zprofile")]
    if "zsh" in startup.shells or not startup.existing.isdisjoint(zsh):
        files += zsh
    return files


def fish_path(startup: ShellStartup) -> str | None:
    """Where fish's file goes; None when fish is neither installed nor configured."""
    if "fish" in startup.shells or startup.fish_directory in startup.existing:
        return join(startup.fish_directory, "conf.d", "claude-local.fish")
    return None


def line_to_add(path: str, directory: str, home: str) -> str | None:
    """The line that puts ``directory`` on PATH in the start-up file ``path``, for a person to add. None for a
    completion, which the shell does without."""
    if "completion" in path:
        return None
    quoted = _in_double_quotes(directory, home)
    return f'fish_add_path "{quoted}"' if path.endswith(".fish") else f'export PATH="{quoted}:$PATH"'


def posix_block(directory: str, home: str) -> str:
    """The marked lines that put ``directory`` first on PATH, once, for sh, bash and zsh."""
    quoted = _in_double_quotes(directory, home)
    return (
        f'{BEGIN}\n{COMMENT}\ncase ":$PATH:" in\n*":{quoted}:"*) ;;\n*) export PATH="{quoted}:$PATH" ;;\nesac\n{END}\n'
    )


def zsh_block(directory: str, home: str, functions: str) -> str:
    """The marked lines for .zshrc: :func:`posix_block`, and llama-local's completion from the directory ``functions``.

    zsh looks for completions only in directories of root. compinit may run before these lines or after them.
    """
    quoted = _in_double_quotes(functions, home)
    lines = (
        f'fpath=("{quoted}" $fpath)\n'
        f"if (( $+functions[compdef] )); then autoload -Uz {ZSH_FUNCTION} && compdef {ZSH_FUNCTION} llama-local; fi\n"
    )
    return posix_block(directory, home).replace(END, lines + END)


def completion_files(home: str, startup: ShellStartup, functions: str) -> dict[str, str]:
    """Shell -> where its completion of llama-local goes; fish only where :func:`fish_path` has a file."""
    files = {
        "bash": join(home, ".local", "share", "bash-completion", "completions", "llama-local"),
        "zsh": join(functions, ZSH_FUNCTION),
    }
    if fish_path(startup) is not None:
        files["fish"] = join(startup.fish_directory, "completions", "llama-local.fish")
    return files


def fish_file(directory: str, home: str) -> str:
    """The whole of fish's conf.d/claude-local.fish."""
    quoted = _in_double_quotes(directory, home)
    return f'{COMMENT}\nif not contains -- "{quoted}" $PATH\n    set -gx PATH "{quoted}" $PATH\nend\n'


def _in_double_quotes(directory: str, home: str) -> str:
    """``directory`` as it stands between double quotes, with $HOME for the home directory."""
    inside = directory == home or directory.startswith(home + "/")
    rest = directory[len(home) :] if inside else directory
    for special in ("\\", '"', "$", "`"):
        rest = rest.replace(special, "\\" + special)
    return "$HOME" + rest if inside else rest


def with_block(text: str, block: str) -> str:
    """``text`` with ``block`` exactly once: an old block is replaced in place, a new one follows an empty line.

    What the user wrote is kept byte for byte. A begin mark without its end mark stays, and a block is appended.
    """
    before, begin, rest = text.partition(BEGIN + "\n")
    old, end, after = rest.partition(END + "\n")
    if not begin or (not end and not rest.endswith(END)) or BEGIN in old:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return text if block in text else text + gap + block
    return before + block + _without_blocks(after)


def _without_blocks(text: str) -> str:
    """``text`` without marked blocks."""
    while BEGIN + "\n" in text:
        before, _, rest = text.partition(BEGIN + "\n")
        _, end, after = rest.partition(END + "\n")
        if not end:
            break
        text = before + after
    return text
