"""The installations of Claude Code on the workstation."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase, StringCommand

from claude_local.claude.versions import Installation
from claude_local.deploy import shell

# Asks each candidate for its version once, also where two paths lead to the same file. The user's PATH is that of an
# interactive login shell: nvm and similar tools set it in .bashrc. setsid: an interactive shell outside the terminal's
# foreground stops itself (SIGTTIN) unless it has no terminal.
SCRIPT = r"""
native=$1; versions=$2; link=$3; tested=$4
echo "link $(readlink -- "$link")"
if test -L "$native"; then echo "native link $(readlink -- "$native")"
elif test -e "$native"; then echo "native file"
else
  place=${native%/*}
  while test ! -e "$place"; do place=$(dirname "$place"); done
  if test -w "$place"; then echo "native free"; else echo "native closed"; fi
fi
login=$(setsid --wait timeout 15 bash -lic 'printf "\nclaude at %s\n" "$(type -P claude)"' </dev/null 2>/dev/null \
  | sed -n 's/^claude at //p' | tail -n 1)
asked=
for path in "$native" "$login" "$(command -v claude)" "$versions/$tested"; do
  case $path in /*) ;; *) continue ;; esac
  test -x "$path" && ! test -d "$path" || continue
  real=$(readlink -f -- "$path")
  case "$asked" in *"|$real|"*) continue ;; esac
  asked="$asked|$real|"
  version=$(timeout 30 "$path" --version </dev/null 2>/dev/null | head -n 1)
  printf 'installed %s\t%s\n' "$path" "$version"
done
command -v npm >/dev/null 2>&1 && echo npm
true
"""


class Installations(TypedDict):
    """``installed``: in order of preference; ``link``: where our link points ("" without one); ``npm``: whether npm is
    installed; ``native``: what is at ~/.local/bin/claude: ``free``, ``closed`` (nothing, and its place is read-only),
    ``file``, or where the link there points."""

    installed: list[Installation]
    link: str
    native: str
    npm: bool


class ClaudeInstallations(FactBase[Installations]):
    """Claude Code at ~/.local/bin/claude, on the user's PATH and in the native installer's folder of versions.

    + native: ~/.local/bin/claude
    + versions: the native installer's folder
    + link: our link
    + tested: the tested version
    """

    def command(self, native: str, versions: str, link: str, tested: str) -> StringCommand:
        return shell.script(SCRIPT, native, versions, link, tested)

    def process(self, output: list[str]) -> Installations:
        result = self.default()
        for line in output:
            kind, _, rest = line.partition(" ")
            if kind == "installed":
                path, _, version = rest.partition("\t")
                result["installed"].append(Installation(path, version.split(" ")[0] or None))
            elif kind == "link":
                result["link"] = rest
            elif kind == "native":
                result["native"] = rest.removeprefix("link ")
            elif kind == "npm":
                result["npm"] = True
        return result

    @staticmethod
    def default() -> Installations:
        """A machine without Claude Code."""
        return Installations(installed=[], link="", native="free", npm=False)
