"""The tool sets: which of Claude Code's tools the model is offered. The one place that names them. Pure.

Claude Code puts the description of each tool before the conversation, and a local model reads all of it before its
first word. MCP tools come on top of each set. What each set leaves out and costs: docs/guide.md, "Tool sets".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ToolSet:
    """``tools``: Claude Code's names, None for all of its tools. ``tokens``: of the first request with -p, counted by
    llama-server for Qwen2.5-Coder (tests/integration/test_tool_sets.py)."""

    tools: tuple[str, ...] | None
    tokens: int

    @property
    def argument(self) -> str:
        """Claude Code's option for this set."""
        return "--tools=" + ("default" if self.tools is None else ",".join(self.tools))

    @property
    def runs_commands(self) -> bool:
        """Whether the model can run commands. Only small models have no Bash by default."""
        return self.tools is None or "Bash" in self.tools

    @property
    def label(self) -> str:
        """For the status line: the tools, where Bash is not among them. A model without it may claim to have run
        something."""
        return "" if self.runs_commands else f"tools: {' '.join(self.tools or ('none',))}"


SETS = {
    "full": ToolSet(None, 19_676),
    # Bash finds text too, so Grep (790 tokens) is not here. Without ExitPlanMode a session could not leave plan mode.
    # AskUserQuestion has 1,270 tokens, Agent 1,600, Skill 500 without Claude Code's own skills: none fits.
    "standard": ToolSet(("Bash", "Read", "Edit", "Write", "Glob", "ExitPlanMode"), 5_100),
    "lean": ToolSet(("Read", "Edit", "Write", "Glob"), 3_350),
    "none": ToolSet((), 1_350),
}
DEFAULT = "standard"


def tool_set(text: str) -> ToolSet | None:
    """The set that TOOLS or --tool-set names; a list of tools (``Read,Write``) is a set of its own. None: neither."""
    if text in SETS:
        return SETS[text]
    tools = tuple(tool.strip() for tool in text.split(","))
    if not all(tool.isidentifier() and tool[0].isupper() for tool in tools):
        return None
    least = "lean" if "Bash" not in tools else "standard" if len(tools) <= len(SETS["standard"].tools or ()) else "full"
    return ToolSet(tools, SETS[least].tokens)
