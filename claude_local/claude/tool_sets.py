"""The tool sets: which of Claude Code's tools the model is offered. The one place that names them. Pure.

Claude Code puts the description of each tool before the conversation, and a local model reads all of it before its
first word. MCP tools come on top of each set. What each set leaves out and costs: docs/guide.md, "Tool sets".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ToolSet:
    """``tools``: Claude Code's names. ``tokens``: of the first request with -p, as llama-server counts them for
    Qwen2.5-Coder (tests/integration/test_tool_sets.py)."""

    tools: tuple[str, ...]
    tokens: int

    @property
    def argument(self) -> str:
        """Claude Code's option for this set."""
        return "--tools=" + ",".join(self.tools)

    @property
    def runs_commands(self) -> bool:
        """Whether the model can run commands. Only small models have no Bash by default."""
        return "Bash" in self.tools

    @property
    def label(self) -> str:
        """For the status line: the tools, where Bash is not among them. A model without it may claim to have run
        something."""
        return "" if self.runs_commands else f"tools: {' '.join(self.tools or ('none',))}"


# Claude Code offers AskUserQuestion and the two for plan mode in the terminal only.
STANDARD = ("Bash", "Read", "Edit", "Write", "Glob", "Grep", "ExitPlanMode")
OTHERS = (
    "Agent", "AskUserQuestion", "CronCreate", "CronDelete", "CronList", "EnterPlanMode", "EnterWorktree",
    "ExitWorktree", "ListAgents", "Monitor", "NotebookEdit", "ReportFindings", "ScheduleWakeup", "SendMessage", "Skill",
    "TaskStop", "WebFetch", "WebSearch", "Workflow",
)  # fmt: skip
SETS = {
    "full": ToolSet((*STANDARD, *OTHERS), 18_500),
    "standard": ToolSet(STANDARD, 5_047),
    "lean": ToolSet(("Read", "Edit", "Write", "Glob"), 3_324),
    "none": ToolSet((), 1_250),
}
DEFAULT = "standard"


def tool_set(text: str) -> ToolSet | None:
    """The set that TOOLS or --tool-set names; a list of tools (``Read,Write``) is a set of its own. None: neither."""
    if text in SETS:
        return SETS[text]
    tools = tuple(tool.strip() for tool in text.split(","))
    if not all(tool.isidentifier() and tool[0].isupper() for tool in tools):
        return None
    enough = (known.tokens for known in reversed(SETS.values()) if set(tools) <= set(known.tools))
    return ToolSet(tools, next(enough, SETS["full"].tokens))
