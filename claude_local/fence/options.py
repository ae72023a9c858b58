"""The launcher's options, the files that they name, and what the launcher reads in Claude Code's own arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

from claude_local.fence.config import ConfigError, FenceConfig, parse
from claude_local.fence.messages import PROVISION, fail

# Claude Code's commands that download something.
DOWNLOADING = ("plugin", "plugins", "install", "update", "upgrade")
# Its options that print one answer and end.
PRINT = ("-p", "--print", "-pc", "-cp")


@dataclass
class Options:
    """What the launcher needs to know.

    ``config``: fence.json. ``home``: the user's home directory. ``config_dir``: Claude Code's configuration directory.
    ``own``: claude-local's own directories. ``state``: the directory of the ledgers. ``sandbox_bin``: the directory
    that comes first on Claude Code's PATH. ``server``: llama-server's address; empty when this command does not use it.
    ``unfenced``: start without any fence. ``command``: claude and its arguments.
    """

    config: str = ""
    home: str = ""
    config_dir: str = ""
    own: list[str] = field(default_factory=list)
    state: str = ""
    sandbox_bin: str = ""
    server: str = ""
    unfenced: bool = False
    command: list[str] = field(default_factory=list)

    @property
    def downloads(self) -> bool:
        """Whether the user runs a Claude Code command that downloads, outside a session. ``mcp`` and ``doctor`` do not
        count: they start the servers that a session may have put into its configuration."""
        word = next((each for each in self.command[1:] if not each.startswith("-")), "")
        return not self.server and word in DOWNLOADING


AnyOptions = TypeVar("AnyOptions", bound=Options)


def parse_arguments(argv: Sequence[str], kind: type[AnyOptions]) -> AnyOptions:
    """The options of ``kind``, one for each of its fields; what follows the first ``--`` is the command.

    Ends the program when there is an unknown option: the wrapper is older or newer than the program.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for each in fields(kind):
        name = "--" + each.name.replace("_", "-")
        if each.name == "own":
            parser.add_argument(name, action="append")
        elif isinstance(each.default, bool):
            parser.add_argument(name, action="store_true")
        elif each.name != "command":
            parser.add_argument(name, type=type(each.default))
    first = list(argv).index("--")
    options, unknown = parser.parse_known_args(argv[:first], kind(command=list(argv[first + 1 :])))
    if unknown:
        fail(f"wrapper and launcher versions differ: the launcher does not know {unknown[0]}", PROVISION)
    return options


def read_config(path: str) -> FenceConfig:
    """fence.json at ``path``. Ends the program when it is missing or invalid."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read())
    except FileNotFoundError:
        fail(f"the fence is not set up: {path} is missing", PROVISION)
    except (OSError, ConfigError) as error:
        fail(f"the fence's configuration {path} cannot be used: {error}", PROVISION)


def before_dashes(argv: list[str]) -> list[str]:
    """The part of a command line that may hold options."""
    return argv[: argv.index("--")] if "--" in argv else argv


def added_directories(argv: list[str]) -> Iterator[str]:
    """The values of claude's ``--add-dir``, which takes one or more."""
    taking = False
    for argument in before_dashes(argv):
        if argument.startswith("--add-dir="):
            yield argument.partition("=")[2]
        elif argument == "--add-dir":
            taking = True
        elif argument.startswith("-"):
            taking = False
        elif taking:
            yield argument


def prints(argv: list[str]) -> bool:
    """Whether claude prints one answer and ends."""
    return any(each in PRINT for each in before_dashes(argv))


def asks_for_worktree(argv: list[str]) -> bool:
    """Whether claude's arguments ask for a new git worktree."""
    return any(each in ("-w", "--worktree") or each.startswith("--worktree=") for each in before_dashes(argv))


def chooses_tools(argv: list[str]) -> bool:
    """Whether the user passes ``--tools`` to claude."""
    return any(each == "--tools" or each.startswith("--tools=") for each in before_dashes(argv))
