"""Turns of a model that must reach Claude Code unchanged: words, thinking and calls of its real tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.chat.formats import Writer
from tests.chat.server import Answer

CODE = (
    'def greet(name: str) -> str:\n    """Say \\"hi\\" & <b>bye</b>."""\n\n'
    '    return f"{name}\\t\\\\ {{1: [2]}} é→🙂"\n'
)
OLD, NEW = "    if a < b && c > d:\n\treturn `x`;", "\n  - item: {key: 'v'}  \n</div>\n"


@dataclass(frozen=True)
class Case:
    """One turn: the model's thinking and words, and its calls as (tool, arguments)."""

    name: str
    thinking: str = ""
    words: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    # Several calls in one turn, which not every model can make.
    parallel: bool = False


CASES = (
    Case("words", words="The bird of case one is a pelican."),
    Case("thinking and words", thinking="Case two wants a short answer.", words="Case two: it is a walnut."),
    Case("one call", calls=(("Read", {"file_path": "/case/three/a.txt"}),)),
    Case(
        "thinking, words and a call",
        thinking="Case four has to look first.",
        words="I look into the file of case four.",
        calls=(("Read", {"file_path": "/case/four/b.txt", "offset": 10, "limit": 20}),),
    ),
    Case(
        "two calls",
        thinking="Case five needs both.",
        calls=(("Read", {"file_path": "/case/five/c.txt"}), ("Read", {"file_path": "/case/five/d.txt"})),
        parallel=True,
    ),
    Case("a whole file", calls=(("Write", {"file_path": "/case/six/e.py", "content": CODE}),)),
    Case(
        "an exact edit",
        calls=(("Edit", {"file_path": "/seven/f.ts", "old_string": OLD, "new_string": NEW, "replace_all": True}),),
    ),
    Case(
        "flags and numbers",
        calls=(("Bash", {"command": "ls -la | grep 'eight'", "timeout": 8000, "run_in_background": False}),),
    ),
    Case("no arguments", calls=(("CronList", {}),)),
    Case(
        "lists and objects",
        calls=(
            (
                "ReportFindings",
                {
                    "findings": [
                        # llama.cpp's grammar of JSON objects needs required properties before optional ones.
                        {"file": "ten.py", "summary": "case ten", "failure_scenario": "it breaks", "line": 10}
                    ]
                },
            ),
        ),
    ),
)


def script(case: Case, write: Writer, parallel: bool) -> str:
    """The text that the model generates; only the first call when the family cannot make parallel calls."""
    return write(case.thinking, case.words, case.calls if parallel else case.calls[:1])


def wrong(case: Case, answer: Answer, thinks: bool, parallel: bool) -> str:
    """How the answer differs from the case, in one line; empty when it does not."""
    if answer.status != 200:
        return f"{answer.status}: {answer.error[:200]}"
    expected = list(case.calls if parallel else case.calls[:1])
    if answer.calls != expected:
        return f"calls {answer.calls!r}, expected {expected!r}, text {answer.words('text')[:200]!r}"
    if answer.words("text").strip() != case.words:
        return f"text {answer.words('text')!r}, expected {case.words!r}"
    if thinks and answer.words("thinking").strip() != case.thinking:
        return f"thinking {answer.words('thinking')!r}, expected {case.thinking!r}"
    return ""
