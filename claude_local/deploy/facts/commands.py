"""The user's shells on the workstation, and where they read their start-up files."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase, StringCommand

from claude_local.deploy import shell

# $1 the home directory. A .zshenv may set ZDOTDIR, so zsh itself is asked. setsid: its files may ask the terminal.
# fish cannot be asked: it makes directories when it starts.
SCRIPT = r"""
export HOME="$1"
for shell in bash zsh fish; do
  if command -v "$shell" >/dev/null 2>&1; then echo "shell $shell"; fi
done
zsh=$(setsid --wait timeout 10 zsh -c 'print -r -- "directory is ${ZDOTDIR:-$HOME}"' </dev/null 2>/dev/null |
  sed -n 's/^directory is //p' | tail -n 1)
case $zsh in /*) ;; *) zsh=$HOME ;; esac
fish=${XDG_CONFIG_HOME:-$HOME/.config}/fish
echo "zsh $zsh"
echo "fish $fish"
if test -d "$fish"; then echo "configured yes"; fi
"""


# The second line of every llamactl that this project has installed.
LLAMACTL = "# llamactl: look at this machine's models and hardware. Installed by tasks/commands.py."
FORMER = r"""
if test -f "$1" && head -n 2 -- "$1" | grep -qxF -e "$3"; then echo "$1"; fi
if test -d "$2"; then echo "$2"; fi
"""


class Shells(TypedDict):
    """``shells``: the installed ones of bash, zsh and fish; ``zsh`` and ``fish``: the directories of their start-up
    files; ``configured``: whether fish's exists."""

    shells: list[str]
    zsh: str
    fish: str
    configured: bool


class UserShells(FactBase[Shells]):
    """The user's shells and their directories.

    + home: the user's home directory
    """

    def command(self, home: str) -> StringCommand:
        self.home = home
        return shell.script(SCRIPT, home)

    def process(self, output: list[str]) -> Shells:
        shells = Shells(shells=[], zsh=self.home, fish=f"{self.home}/.config/fish", configured=False)
        for line in output:
            name, _, value = line.partition(" ")
            if name == "shell":
                shells["shells"].append(value)
            elif name == "zsh":
                shells["zsh"] = value
            elif name == "fish":
                shells["fish"] = value
            elif name == "configured":
                shells["configured"] = True
        return shells

    @staticmethod
    def default() -> Shells:
        """A machine that answers nothing (pyinfra's @fake)."""
        return Shells(shells=[], zsh="", fish="", configured=False)


class FormerFiles(FactBase[list[str]]):
    """Which of the paths earlier deploys have left: ``llamactl`` if it is ours, and the folder ``shims``."""

    def command(self, llamactl: str, shims: str) -> StringCommand:
        return shell.script(FORMER, llamactl, shims, LLAMACTL)

    def process(self, output: list[str]) -> list[str]:
        return output

    @staticmethod
    def default() -> list[str]:
        """A machine without any."""
        return []
