"""What the user types after ``claude-local``: our own options, claude's arguments, and names of commands that are not
claude's. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from claude_local.claude.tool_sets import SETS
from claude_local.fence.options import PRINT

# Claude Code's commands that do not talk to llama-server.
WITHOUT_SERVER = frozenset({
    "agents", "attach", "auth", "auto-mode", "doctor", "gateway", "import", "install", "logs", "mcp", "plugin",
    "plugins", "purge", "rm", "sandbox", "setup-token", "stop", "kill", "update", "upgrade",
})  # fmt: skip
# Claude Code's options that go on with an earlier conversation: the newest, or the one with the id that follows.
CONTINUE, RESUME = ("-c", "--continue", "-pc", "-cp"), ("-r", "--resume")
TOOL_SETS = " | ".join(SETS)
HELP = """\
claude-local: Claude Code on this machine's llama-server, inside a fence. It takes all of claude's options, and:
  --model PROFILE   use this profile for the session: {profiles}
  --tool-set SET    offer the model these tools: {tool_sets}; claude's --tools wins
  --unfenced        run without the fence this time
Sessions start in plan mode unless home_default_mode is set; -p does not, unless home_print_mode is set. llama-local
hardware and llama-local models show what this machine has; ./provision verify in the claude-local project checks it.
Claude Code's own help:
"""


class UsageError(Exception):
    """Arguments that cannot be used. The message says why; ``fix``, where there is one, is a command that works."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


@dataclass
class Arguments:
    """``claude``: what claude gets. ``profile``: of --model, empty for the default one. ``tool_set``: of --tool-set,
    empty for the profile's own. ``settings``: the values of --settings. ``prints``: -p is given. ``conversation``: the
    id of the earlier one that goes on, empty for the newest; None for a new one, or one that the user chooses later.
    ``needs_server``: claude will talk to llama-server. ``help``: --help comes first."""

    claude: list[str] = field(default_factory=list)
    profile: str = ""
    tool_set: str = ""
    settings: list[str] = field(default_factory=list)
    unfenced: bool = False
    prints: bool = False
    conversation: str | None = None
    needs_server: bool = True
    help: bool = False


def read(argv: Sequence[str], profiles: str = "PROFILE") -> Arguments:
    """Take our options out of ``argv``, up to ``--``. ``profiles``: how messages name the profiles of this machine.

    Raises UsageError for an option of ours without its value, and for a tool set that there is not.
    """
    arguments = Arguments()
    values = {"--model": profiles, "--settings": "FILE", "--tool-set": TOOL_SETS}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if word == "--":
            arguments.claude += [word, *rest]
            break
        if option in values:
            if not equals:
                if not rest:
                    needs = {"--model": "the name of a profile", "--settings": "a file or JSON"}
                    what = needs.get(option, "the name of a tool set")
                    raise UsageError(f"{option} needs {what}", f"claude-local {option} {values[option]}")
                value = rest.pop(0)
            if option == "--model":
                arguments.profile = value
            elif option == "--tool-set":
                if value not in SETS:
                    raise UsageError(f"there is no tool set '{value}'", f"claude-local --tool-set {TOOL_SETS}")
                arguments.tool_set = value
            else:
                arguments.settings.append(value)
        elif word == "--unfenced":
            arguments.unfenced = True
        else:
            _note_claudes_own(arguments, word)
            arguments.claude.append(word)
    return arguments


def _note_claudes_own(arguments: Arguments, word: str) -> None:
    """Remember what the argument ``word`` of claude's means for us."""
    first = not arguments.claude
    if word in PRINT:
        arguments.prints = True
    if word in CONTINUE:
        arguments.conversation = ""
    elif word.startswith("--resume="):
        arguments.conversation = word.partition("=")[2]
    elif not first and arguments.claude[-1] in RESUME and not word.startswith("-"):
        arguments.conversation = word
    if word in ("-h", "--help", "-v", "--version") or (first and word in WITHOUT_SERVER):
        arguments.needs_server = False
    arguments.help = arguments.help or (first and word in ("-h", "--help"))


def refuse_command(arguments: Arguments) -> None:
    """Raise UsageError when the only argument is the name of a command that Claude Code does not have: it would become
    a prompt to the model. ``logs`` and ``stop`` are Claude Code's own, but need the id of a background session."""
    suggestions = {
        "fence": "llama-local fence why",
        "stop": "llama-local stop    (claude-local stop ID stops a background session)",
        "logs": "llama-local logs    (claude-local logs ID shows a background session)",
    }
    own = "bench", "cache", "dashboard", "hardware", "models", "open", "restart", "start", "status", "switch", "verify"
    for name in own:
        suggestions[name] = f"llama-local {name}"
    if len(arguments.claude) == 1 and (suggestion := suggestions.get(arguments.claude[0])):
        raise UsageError(f"'{arguments.claude[0]}' alone is no command; did you mean: {suggestion}")
