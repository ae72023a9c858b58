"""The dashboard itself: panels, keys, and the tasks that keep them true."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Footer, Input, Static
from textual.worker import Worker, WorkerState

from claude_local.cli.containers import DockerFailed, docker
from claude_local.dashboard import panels
from claude_local.dashboard.client import Manager, ManagerError
from claude_local.dashboard.dialogs import Ask, Help, Picker
from claude_local.dashboard.feeds import Feeds
from claude_local.dashboard.files import Files
from claude_local.dashboard.log_view import LogView
from claude_local.dashboard.picture import Picture
from claude_local.dashboard.signs import BAD, GOOD, Ascii
from claude_local.manager.container import container_name

# Seconds between two drawings.
DRAW = 1.0


class Panel(Static):
    """A frame with text that ``draw`` makes of the picture and a width."""

    def __init__(self, name: str, draw: Callable[[Picture, int], Text]) -> None:
        super().__init__(id=name, markup=False)
        self.border_title, self.draw_text = name, draw
        self.last: Text | None = None

    def show(self, picture: Picture) -> None:
        """Draw anew what has changed."""
        if (text := self.draw_text(picture, self.content_size.width or 60)) != self.last:
            self.last = text
            self.update(text)

    def on_resize(self) -> None:
        """Draw for the new width."""
        if isinstance(self.app, Dashboard):
            self.app.call_after_refresh(self.app.draw)


class Dashboard(App[None]):
    """``container``: the name of llama-server's. ``ascii_only``: the terminal shows no Unicode. ``feeds``: what tests
    change in claude_local.dashboard.feeds.Feeds."""

    CSS_PATH = "dashboard.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar = [
        Binding("m", "models", "model"),
        Binding("c", "cancel", "cancel"),
        Binding("l", "log", "log"),
        Binding("slash", "search", "search", key_display="/"),
        Binding("s", "stop", "stop/start"),
        Binding("r", "restart", "restart"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q,ctrl+c", "quit", "quit", key_display="q"),
        Binding("n", "find(1)", show=False),
        Binding("N,shift+n", "find(-1)", show=False),
        Binding("f", "filter", show=False),
        Binding("escape", "close_search", show=False),
    ]

    def __init__(
        self,
        manager: Manager,
        files: Files,
        container: str = "claude-local-server",
        *,
        ascii_only: bool = False,
        **feeds: Any,
    ) -> None:
        super().__init__(ansi_color="NO_COLOR" in os.environ or None)
        self.manager, self.container = manager, container
        self.picture = Picture(files)
        self.log_view = LogView()
        self.message = Static("", id="message", markup=False)
        manager_name = container_name(container)
        self.panels = {
            "model": Panel("model", lambda picture, width: panels.model(picture, width, manager_name)),
            "machine": Panel("machine", panels.machine),
            "sessions": Panel("sessions", panels.sessions),
            "fence": Panel("fence", panels.fence),
            "verify": Panel("verify", panels.verify),
        }
        self.drawn = ""
        self.feeds = Feeds(manager, files, self.picture, self.log_view, self.complain, **feeds)
        if ascii_only:
            self._filters.append(Ascii())
        self.set_class(self.no_color, "-no-color")

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="panes"):
            with VerticalScroll(id="left"):
                yield from (self.panels[name] for name in ("model", "machine", "sessions"))
            with VerticalScroll(id="right"):
                yield self.log_view
                yield from (self.panels[name] for name in ("fence", "verify"))
        yield Static("the dashboard needs 60 columns and 20 lines", id="small")
        yield Input(placeholder="search in the log", id="search")
        yield self.message
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Start what keeps the picture true."""
        # Where all is one below the other, the arrows scroll all of it.
        wide = self.size.width >= self.HORIZONTAL_BREAKPOINTS[-1][0]
        (self.log_view if wide else self.query_one("#panes")).focus(scroll_visible=False)
        feeds = self.feeds
        for feed in (feeds.events, feeds.answers, feeds.machine, feeds.gpus, feeds.user_files):
            self.run_worker(feeds.keep(feed), exit_on_error=False)
        self.set_interval(DRAW, self.draw)

    async def on_unmount(self) -> None:
        """Leave nothing behind."""
        await self.feeds.close()

    def draw(self) -> None:
        """Show the picture."""
        for panel in self.panels.values():
            panel.show(self.picture)
        if self.drawn != (state := self.picture.state):
            self.drawn = state
            self.refresh_bindings()

    def say(self, text: str, style: str = "") -> None:
        """The line above the keys."""
        self.message.update(Text(text, style))

    def complain(self, problem: str) -> None:
        """An error, in that line."""
        self.say(f"✗ {problem}", BAD)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """No error of a task ends the dashboard."""
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            self.complain(f"{type(error).__name__}: {error}")

    # --- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Cancel is there during a switch only."""
        return action != "cancel" or self.picture.state == "switching"

    def _change(self, doing: str, change: Callable[[], Awaitable[str]]) -> None:
        """Do something that takes time, and say how it ended."""

        async def do() -> None:
            self.say(f"{doing} …")
            try:
                self.say(f"✓ {await change()}", GOOD)
            except (ManagerError, DockerFailed) as error:
                self.complain(str(error))

        self.run_worker(do(), exit_on_error=False)

    def _post(self, doing: str, path: str, body: Any, done: Callable[[Any], str]) -> None:
        async def change() -> str:
            return done(await self.manager.post(path, body))

        self._change(doing, change)

    def action_models(self) -> None:
        """Choose a model."""
        self.run_worker(self._choose(), exit_on_error=False)

    async def _choose(self) -> None:
        try:
            await self.feeds.ask_models()
        except ManagerError as error:
            self.complain(str(error))
            return

        def chosen(name: str | None) -> None:
            if name:
                self._change(f"switching to {name}", lambda: self._switch(name))

        self.push_screen(Picker(self.picture), chosen)

    async def _switch(self, name: str) -> str:
        """Switch, after a question if a session's conversation is too long for the model."""
        try:
            answer = await self.manager.post("/switch", {"model": name})
        except ManagerError as error:
            if error.status != 409 or "sessions" not in error.told:
                raise
            question = f"{error.told['error']}.\nSuch a conversation cannot go on until you switch back. Switch anyway?"
            if not await self.push_screen_wait(Ask("switch", question)):
                raise
            answer = await self.manager.post("/switch", {"model": name, "force": True})
        return _switched(answer)

    def action_cancel(self) -> None:
        """End a switch."""
        self._post("cancelling", "/switch/cancel", {}, lambda _: "the switch is cancelled, the former model comes back")

    def action_stop(self) -> None:
        """Unload the model after a question, or load it again."""
        if self.picture.state in ("stopped", "idle"):
            self._post("starting", "/start", {}, _switched)
            return

        def answered(answer: str | None) -> None:
            if answer:
                self._post("stopping", "/stop", {}, lambda _: "no model is loaded; s starts it again")

        question = "Unload the model and free its memory?\nIt stays unloaded until s or a session loads it."
        self.push_screen(Ask("stop", question), answered)

    def action_restart(self) -> None:
        """Restart the server's container after a question."""

        async def restart() -> str:
            await asyncio.to_thread(docker, "restart", self.container, password=False)
            return "llama-server restarts, and loads the active model"

        def answered(answer: str | None) -> None:
            if answer:
                self._change(f"restarting {self.container}", restart)

        self.push_screen(
            Ask("restart", "Restart llama-server?\nRunning answers are cut off; Claude Code retries them."), answered
        )

    def action_log(self) -> None:
        """The log alone, or all panels."""
        self.screen.toggle_class("-log")
        self.log_view.focus()

    def action_search(self) -> None:
        """Open the line for the search."""
        line = self.query_one("#search", Input)
        line.display = True
        line.value = self.log_view.term
        line.focus()

    def action_find(self, step: int) -> None:
        """Go to the next or the previous match."""
        self.log_view.find(step)

    def action_filter(self) -> None:
        """Show only the lines that match, or all."""
        self.log_view.filter()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search."""
        self.log_view.search(event.value)
        self.action_close_search()

    def action_close_search(self) -> None:
        """Close the line for the search, and clear the message."""
        self.query_one("#search", Input).display = False
        self.log_view.focus()
        self.say("")

    def action_help(self) -> None:
        """The keys."""
        self.push_screen(Help("keys"))

    async def action_quit(self) -> None:
        """Leave; the server goes on."""
        self.exit()


def _switched(answer: dict[str, Any]) -> str:
    """The result of a switch, in one line."""
    former = answer.get("previous_ctx_size")
    note = f", {former:,} before: a long conversation is compacted" if former and answer["ctx_size"] < former else ""
    seconds = sum(answer["seconds"].values())
    return f"{answer['model']} answers after {seconds:.1f} s, {answer['ctx_size']:,} tokens of context{note}"
