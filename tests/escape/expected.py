"""What gets through: the battery holds it against what it sees, and docs/fence.md lists it.

An outcome that differs from this, either way, fails the battery. Correct it here, and put what
``python -m tests.escape.expected`` prints into docs/fence.md.
"""

from __future__ import annotations

import textwrap

from tests.escape.attempt import ROOT, USER, attempts_of

# way -> the names of the attempts that get through, for everybody.
EXPECTED: dict[str, frozenset[str]] = {
    "both": frozenset(),
    # Outer only: what a Bash command may write in ~/.claude-local.
    "outer": frozenset({"own-settings"}),
    # Inner only: hooks, MCP servers and Claude Code itself run as the user; Bash commands share the IPC namespace, and
    # may set any mode on what they may write.
    "inner": frozenset({
        "devcontainer", "git-config-edit", "git-husky", "git-init", "git-nested", "hook-write-tool",
        "workspace-profile",
        "git-made-link", "git-made-long", "git-made-second", "git-made-address", "git-made-shape", "git-made-transport",
        "git-made-many", "git-module",
        "git-deep", "git-exclude", "git-index", "git-included", "git-nested-named",
        "hook-background", "hook-cgroup-kill", "hook-descriptor", "hook-docker", "hook-network", "hook-ptrace",
        "hook-read", "hook-set-id", "hook-start", "hook-write",
        "key-helper", "mcp-http", "mcp-network", "mcp-read", "mcp-tiocsti", "mcp-write",
        "hook-token", "hook-token-file", "other-server", "server-models",
        "setuid-copy", "setuid-install", "shm-sysv", "tmp-outside",
        "variable-bash-env", "variable-path", "variable-preload",
    }),
}  # fmt: skip
# The same, for root besides.
EXPECTED_FOR_ROOT: dict[str, frozenset[str]] = {
    # The inner fence itself needs user namespaces and mounts, and no filter sees what kind of mount is asked for.
    "both": frozenset({"hook-overlay"}),
    "outer": frozenset({"hook-overlay"}),
    # A sandboxed command of root's is root to every file and to /proc/sys.
    "inner": frozenset(
        {
            "capability",
            "hook-capability",
            "hook-overlay",
            "hook-tiocsti",
            "host-name",
            "core-pattern",
            "shadow-bash",
            "shadow-read",
        }
    ),
}
TITLES = {
    "outer": "**The outer layer alone** (the deploy says that Claude Code's sandbox does not work here) lets through:",
    "inner": "**The inner layer alone** (the deploy says that bubblewrap around Claude Code does not work here) lets "
    "through:",
}


def expected(way: str, account: str) -> frozenset[str]:
    """The attempts of ``account`` (ROOT or USER) that get through in a ``way``: ``both``, ``outer`` or ``inner``."""
    names = {each.name for each in attempts_of(account)}
    return frozenset(names & (EXPECTED[way] | (EXPECTED_FOR_ROOT[way] if account == ROOT else frozenset())))


def families(way: str) -> dict[str, list[str]]:
    """The families that get through with one layer, each with what its attempts did, in the order of the register."""
    user, root = expected(way, USER), expected(way, ROOT)
    found: dict[str, list[str]] = {}
    for each in attempts_of(ROOT):
        if each.name in user | root:
            what = each.what if each.name in user or USER not in each.accounts else f"{each.what} (as root)"
            found.setdefault(each.family, []).append(what)
    return found


def guide_section() -> str:
    """The list in docs/fence.md, "What one layer alone lets through"."""
    lines = []
    for way, title in TITLES.items():
        lines += [title, ""]
        for family, what in families(way).items():
            lines += textwrap.wrap(f"* {family}: {'; '.join(what)}.", 118, subsequent_indent="  ",
                                   break_on_hyphens=False,
                                   break_long_words=False)  # fmt: skip
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(guide_section(), end="")
