"""The text of each panel, from the picture and the width in cells. Pure."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from claude_local.claude.running_sessions import shortened
from claude_local.dashboard.machine import Gpu, Parts, gpu_parts, host_parts
from claude_local.dashboard.picture import Picture
from claude_local.dashboard.signs import BAD, BUSY, CALM, FAINT, GOOD, STATES, bar, gib, tokens
from claude_local.dashboard.slots import SlotView
from claude_local.fence.messages import printable

# What to do about a state.
FIXES = {
    "down": "r restarts llama-server, l shows its log",
    "failed": "m loads another model, l shows the log",
    "stopped": "s starts it",
    "manager gone": "sudo docker start {manager}",
    "docker gone": "sudo systemctl start docker",
}
NO_DOCKER = "Docker is down, and with it llama-server and the management API"
PARTS = (("weights", "█", CALM), ("KV", "▓", "#d787d7"), ("compute", "▒", "#5fd7af"), ("others", "░", "#8a8a8a"))
# Labels in front of bars and lists.
LABEL = 9


def _label(text: str) -> Text:
    return Text(f"{text:<{LABEL}}", FAINT)


def _lines(*lines: Text | str) -> Text:
    return Text("\n").join(Text(line) if isinstance(line, str) else line for line in lines)


# --- model ------------------------------------------------------------------------------------------------------------


def model(picture: Picture, width: int, manager: str = "claude-local-manager") -> Text:
    """State and model with its context."""
    state, status = picture.state, picture.status
    sign, colour = STATES.get(state, ("?", BAD))
    lines = [Text.assemble((f"{sign} {state}", colour), "  ", (printable(status.get("model_name", "")), "bold"))]
    if status.get("ctx_size"):
        lines.append(Text(f"{printable(status['model'])}, {tokens(status['ctx_size'])} tokens of context", FAINT))
    others = [each["id"] for each in picture.models if not each["active"] and each["state"] == "loaded"]
    if others and not picture.unreachable:
        lines.append(Text(f"also in memory: {printable(', '.join(others))}", FAINT))
    if picture.unreachable:
        lines.append(Text(NO_DOCKER if state == "docker gone" else picture.unreachable))
    elif state not in ("ready", "connecting"):
        lines.append(Text(printable(status.get("status", ""))))
    if fix := FIXES.get(state):
        lines.append(Text.assemble(_label("fix" if colour == BAD else "next"), (fix.format(manager=manager), "bold")))
    if state in ("loading", "switching"):
        lines += _load(picture, width)
    elif state == "ready" and status.get("ctx_size") and (used := _used(picture.slots, status["model"])):
        lines.append(_context(used, status["ctx_size"], width))
    return _lines(*lines)


def _load(picture: Picture, width: int) -> list[Text]:
    """How far a load is, and for whom."""
    switch, progress = picture.status.get("switch") or {}, picture.status.get("progress")
    end = "" if progress is None else f" {progress:.0%}"
    if switch.get("seconds_left"):
        end += f", {switch['seconds_left']:.0f} s left"
    lines = [Text.assemble(_label(switch.get("stage", "loading")), _sized_bar(width, end, progress or 0, BUSY), end)]
    if switch.get("who"):
        lines.append(Text.assemble(_label("for"), printable(switch["who"])))
    return lines


def _sized_bar(width: int, end: str, share: float, style: str) -> Text:
    return bar(max(6, min(40, width - LABEL - len(end))), (share, "█", style))


def _used(slots: list[SlotView], model: str) -> int:
    """The tokens in the fullest slot of the model."""
    return max((max(slot.prompt, slot.read) + slot.decoded for slot in slots if slot.model == model), default=0)


def _context(used: int, window: int, width: int) -> Text:
    share = used / window
    end = f" {tokens(used)} used ({share:.0%})"
    return Text.assemble(_label("context"), _sized_bar(width, end, share, BUSY if share > 0.9 else GOOD), end)


# --- machine ----------------------------------------------------------------------------------------------------------


def machine(picture: Picture, width: int) -> Text:
    """GPUs, or processor and main memory where there is none; the memory by what it holds."""
    host, needs = picture.host, picture.loaded
    if host is None:
        return Text("…", FAINT)
    lines: list[Text | str] = []
    gpus = list(picture.gpus.values())
    for gpu in gpus:
        parts = gpu_parts(gpu, gpus, needs)
        lines += [_gpu_line(gpu), *_memory(parts, width)]
    share = f"CPU {host.cpu:.0%} of {host.cores} cores"
    if gpus:
        lines.append(Text(f"{share}, memory {gib(host.used)} of {gib(host.total)} GiB", FAINT))
    else:
        lines += [Text.assemble(share, ("   no GPU", FAINT))]
        lines += _memory(host_parts(host, needs), width)
    return _lines(*lines)


def _gpu_line(gpu: Gpu) -> Text:
    cells = [f"{gpu.load:.0f}%" if gpu.load is not None else "", ""]
    if gpu.temperature is not None:
        cells.append(f"{gpu.temperature:.0f} °C")
    if gpu.power is not None:
        cells.append(f"{gpu.power:.0f} of {gpu.limit:.0f} W" if gpu.limit else f"{gpu.power:.0f} W")
    return Text.assemble((f"{gpu.index} {printable(gpu.name)}", "bold"), "  ", "  ".join(filter(None, cells)))


def _memory(parts: Parts, width: int) -> list[Text]:
    """A bar, and beneath it what it shows."""
    sizes = (parts.weights, parts.cache, parts.compute, parts.others)
    total = max(sum(sizes) + parts.free, 1)
    end = f" {gib(sum(sizes))} of {gib(total)} GiB"
    shown = [(size / total, sign, style) for size, (_, sign, style) in zip(sizes, PARTS, strict=True)]
    lines = [Text.assemble(bar(max(6, width - len(end)), *shown), end)]
    legend = [
        Text.assemble((sign, style), (f" {name} {gib(size)}  ", FAINT))
        for size, (name, sign, style) in zip(sizes, PARTS, strict=True)
        if size
    ]
    for part in legend:
        if len(lines) == 1 or len(lines[-1]) + len(part) > width + 2:
            lines.append(Text())
        lines[-1].append_text(part)
    return lines


# --- sessions ---------------------------------------------------------------------------------------------------------


def sessions(picture: Picture, width: int) -> Text:
    """Who uses the model, what the slots do, and the last turns with their cache."""
    lines: list[Text | str] = []
    for session in picture.sessions or []:
        project = shortened(printable(str(session.get("workspace", "?"))), picture.files.paths.home)
        lines.append(Text.assemble("› ", (project, "bold"), (f"  {printable(session.get('profile') or '')}", FAINT)))
    if picture.sessions == []:
        lines.append(Text("no session runs", FAINT))
    for model in (models := dict.fromkeys(slot.model for slot in picture.slots)):
        if len(models) > 1:
            lines.append(Text(printable(model), FAINT))
        for slot in picture.slots:
            lines += _slot(slot, width) if slot.model == model else []
    if picture.turns:
        lines.append(Text(f"  {'cached':>8} {'computed':>9} {'answer':>7} {'read/s':>7} {'write/s':>8}", FAINT))
    for turn in list(picture.turns)[-6:][::-1]:
        sign, style = ("▲", BUSY) if turn.cause else ("✓", GOOD)
        counts = f" {tokens(turn.cached):>8} {tokens(turn.computed):>9} {tokens(turn.decoded):>7}"
        lines.append(
            Text.assemble((sign, style), f"{counts} {_speed(turn.read_speed, 7, 0)} {_speed(turn.decode_speed, 8, 1)}")
        )
        if turn.cause:
            lines.append(Text(f"  ↳ {turn.cause}", FAINT))
    return _lines(*lines) if lines else Text("no turn yet", FAINT)


def _speed(speed: float | None, columns: int, digits: int) -> str:
    return f"{'' if speed is None else f'{speed:,.{digits}f}':>{columns}}"


def _slot(slot: SlotView, width: int) -> list[Text]:
    if not slot.busy:
        return [Text("the slot is idle", FAINT)]
    if slot.decoded:
        speed = "" if slot.decode is None else f", {slot.decode:.1f} tokens/s"
        return [Text.assemble((f"{'answers':<{LABEL}}", GOOD), f"{tokens(slot.decoded)} tokens{speed}")]
    end = f" {tokens(slot.read)} / {tokens(slot.prompt)}"
    if slot.seconds_left is not None:
        end += f", {slot.seconds_left:.0f} s left"
    share = slot.read / max(slot.prompt, 1)
    first = Text.assemble((f"{'reads':<{LABEL}}", BUSY), _sized_bar(width, end, share, BUSY), end)
    return [first, Text(f"{'':<{LABEL}}{tokens(slot.cached) if slot.cached else 'none'} of them from the cache", FAINT)]


# --- fence and verify -------------------------------------------------------------------------------------------------


def fence(picture: Picture, width: int) -> Text:
    """The fence's layers, and what it refused last."""
    if picture.files.fence is None:
        return Text("not set up: ./provision", BAD)
    layers = (("outer", "bubblewrap, around the session"), ("inner", "Claude Code's sandbox, around each command"))
    lines: list[Text | str] = []
    for name, what in layers:
        up = name in picture.files.fence.layers
        lines.append(Text.assemble((f"{'✓' if up else '✗'} {name}", GOOD if up else BAD), f"  {what}"))
    if picture.files.fence.reason:
        lines.append(Text(printable(picture.files.fence.reason), BUSY))
    for each in reversed(picture.files.refusals):
        lines.append(Text.assemble((f"{_when(each.when)}  ", FAINT), printable(each.what)))
    if not picture.files.refusals:
        lines.append(Text("nothing was refused lately", FAINT))
    return _lines(*lines)


def verify(picture: Picture, width: int) -> Text:
    """The last verify, failures first."""
    report = picture.files.verify
    if not report.get("rows"):
        return Text("never run: ./provision verify", BUSY)
    sign, style = ("✓", GOOD) if report["ok"] else ("✗", BAD)
    lines: list[Text | str] = [
        Text.assemble((f"{sign} {report['totals']}", style), (f"   {_when(report['finished'])}", FAINT))
    ]
    for row in report["rows"]:
        if row["status"] == "FAIL":
            lines.append(Text.assemble((f"✗ {row['id']}", BAD), f"  {printable(row['evidence'])}"))
            lines.append(Text.assemble("  fix: ", (printable(row["fix"]), "bold")))
    return _lines(*lines)


def _when(text: str) -> str:
    """A time in UTC as the user's clock shows it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().strftime("%m-%d %H:%M")
