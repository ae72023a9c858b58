"""What opens over the panels: a question, the list of models, the help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from claude_local.cli.profiles import size
from claude_local.dashboard.picture import Picture
from claude_local.dashboard.signs import BAD, FAINT, GOOD, tokens
from claude_local.fence.messages import printable

HELP = """\
m   choose another model: its size, its load time, and whether it fits
c   cancel the running switch: the former model comes back
s   stop: unload the model and free its memory; start it again
r   restart llama-server
l   show the log alone, and back

/   search in the log; an empty search ends it
n N next and previous match          f   show only matching lines
up, down, page up, page down, home, end   scroll; tab goes to the log

Signs:  ● ready   ◔ loading   ⇄ switching   ○ idle   ☾ sleeping   ■ stopped   ✗ failed or down
Turns:  ✓ most of the prompt came from the cache   ▲ most was read anew
Memory: weights, KV cache and compute are the deploy's estimates.

q or Ctrl-C leaves. The server goes on.
"""


class Dialog(ModalScreen[str | None]):
    """A box over the panels. Its result is None when it is closed with Escape or q."""

    BINDINGS: ClassVar = [Binding("escape,q", "dismiss(None)", "close")]

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = self.title
            yield from self.content()

    def content(self) -> ComposeResult:
        """What is in the box."""
        yield from ()


class Help(Dialog):
    """The keys and signs."""

    def content(self) -> ComposeResult:
        yield Static(HELP, markup=False)
        yield Static("Esc closes", classes="hint")


class Ask(Dialog):
    """A question; the result is ``yes`` for yes."""

    BINDINGS: ClassVar = [Binding("y", "dismiss('yes')", "yes"), Binding("n", "dismiss(None)", "no")]

    def __init__(self, title: str, question: str) -> None:
        super().__init__(title)
        self.question = question

    def content(self) -> ComposeResult:
        yield Static(self.question, markup=False)
        yield Static("y yes   n no", classes="hint")


class Picker(Dialog):
    """The placed profiles; the result is the id of the chosen one."""

    def __init__(self, picture: Picture) -> None:
        super().__init__("choose a model")
        self.picture = picture

    def content(self) -> ComposeResult:
        ids = [each["id"] for each in self.picture.models]
        options = OptionList(*(Option(row, id=name) for name, row in zip(ids, rows(self.picture), strict=True)))
        active = [number for number, each in enumerate(self.picture.models) if each["active"]]
        options.highlighted = active[0] if active else 0
        yield options
        yield Static("Enter switches; no answer is lost, and conversations go on   Esc closes", classes="hint")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """The chosen one."""
        self.dismiss(event.option_id)


def rows(picture: Picture) -> Sequence[Text]:
    """Each placed profile: name and state; context, size and what a load costs; whether it fits."""
    return [_row(each) for each in picture.models]


def _row(each: Mapping[str, Any]) -> Text:
    fit, state = each["fit"], each["state"] if each["state"] in ("loaded", "loading", "sleeping") else ""
    facts = [
        f"{tokens(each['ctx_size'])} tokens" if each["ctx_size"] else "",
        size(each["size"]) if each["size"] else "",
    ]
    facts.append(f"loads in {each['load_seconds']:.0f} s" if each["load_seconds"] else "not loaded yet")
    row = Text.assemble(
        ("● " if each["active"] else "  ", GOOD), (printable(each["name"]), "bold"),
        f"   {printable(each['id'])}   ", (state, GOOD), "\n   ", (", ".join(filter(None, facts)), FAINT),
    )  # fmt: skip
    if fit and fit["reason"]:
        row.append("\n   ").append(f"{'✓' if fit['fits'] else '✗'} {fit['reason']}", GOOD if fit["fits"] else BAD)
    return row
