"""Which Claude Code is on the workstation."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase, QuoteString, StringCommand

from claude_local.claude.versions import Installation

# Each candidate is asked once; a path that comes twice (a link to another candidate) is asked once too. The user's own
# PATH is what an interactive login shell sees: nvm and its like set it in .bashrc. setsid: an interactive shell that is
# not in the terminal's foreground stops itself (SIGTTIN) unless it has no terminal.
SCRIPT = r"""
native=$1; versions=$2; link=$3; tested=$4
echo "link $(readlink -- "$link")"
if test -L "$native"; then echo "native link $(readlink -- "$native")"
elif test -e "$native"; then echo "native file"
else echo "native free"; fi
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
  printf 'found %s\t%s\n' "$path" "$version"
done
command -v npm >/dev/null 2>&1 && echo npm
true
"""


class ClaudeSeen(TypedDict):
    """``found``: the installations in order of preference; ``link``: where our link points ("" when there is none);
    ``native``: what is at ~/.local/bin/claude: ``free``, ``file``, or where its link points; ``npm``: npm is there."""

    found: list[Installation]
    link: str
    native: str
    npm: bool


class ClaudeInstallations(FactBase[ClaudeSeen]):
    """Claude Code at ~/.local/bin/claude, on the user's PATH and in the native installer's folder of versions."""

    def command(self, native: str, versions: str, link: str, tested: str) -> StringCommand:
        words = [QuoteString(word) for word in (SCRIPT, "sh", native, versions, link, tested)]
        return StringCommand("sh", "-c", *words)

    def process(self, output: list[str]) -> ClaudeSeen:
        seen = self.default()
        for line in output:
            kind, _, rest = line.partition(" ")
            if kind == "found":
                path, _, said = rest.partition("\t")
                seen["found"].append(Installation(path, said.split(" ")[0] or None))
            elif kind == "link":
                seen["link"] = rest
            elif kind == "native":
                seen["native"] = rest.removeprefix("link ")
            elif kind == "npm":
                seen["npm"] = True
        return seen

    @staticmethod
    def default() -> ClaudeSeen:
        return ClaudeSeen(found=[], link="", native="free", npm=False)
