"""The states that the dashboard has a picture for, as a scripted manager and the user's files tell them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_local.dashboard.files import Files
from claude_local.dashboard.machine import Host
from claude_local.fence.config import FenceConfig
from claude_local.fence.refusals import Refusal
from claude_local.models.fit import Fit
from claude_local.models.memory import Estimate
from claude_local.paths import Paths
from tests.dashboard.scripted_manager import ScriptedManager

GIB = 1 << 30
CODER, NEXT, SMALL = "qwen3-coder-30b-q4", "qwen3-coder-next-ud-q4", "qwen2.5-coder-1.5b"
NAMES = {CODER: "Qwen3 Coder 30B A3B", NEXT: "Qwen3 Coder Next 80B A3B", SMALL: "Qwen2.5 Coder 1.5B"}
WINDOWS = {CODER: 65536, NEXT: 262144, SMALL: 32768}
SECONDS = {CODER: 11.8, NEXT: None, SMALL: 1.9}
SIZES = {CODER: 18_556_686_912, NEXT: 49_608_478_720, SMALL: 1_117_320_768}
FITS = {
    CODER: Fit(CODER, True, "fits wholly on RTX 4090 + RTX 5070 Ti with 65,536 tokens of context", 65536,
               Estimate(int(17.3 * GIB), 0, 6 * GIB // 2, GIB // 3)),
    NEXT: Fit(NEXT, False, "does not fit on the GPUs: 12.0 GiB short at 65,536 tokens of context", 65536,
              Estimate(int(46.2 * GIB), 0, 3 * GIB, GIB // 2)),
    SMALL: Fit(SMALL, True, "fits wholly on RTX 4090 with 32,768 tokens of context", 32768,
               Estimate(GIB, 0, GIB * 7 // 8, GIB // 3)),
}  # fmt: skip
GPUS = (
    "0, NVIDIA GeForce RTX 4090, 19482, 24564, 87, 64, 318.42, 450.00",
    "1, NVIDIA GeForce RTX 5070 Ti, 6122, 16303, 41, 52, 118.10, 300.00",
)
HOST = Host(0.31, 16, 64 * GIB, 21 * GIB, GIB, True, (0, 0))


def models(active: str = CODER, state: str = "loaded") -> list[dict[str, Any]]:
    return [
        {
            "id": each, "name": NAMES[each], "description": "", "ctx_size": WINDOWS[each], "active": each == active,
            "state": state if each == active else "unloaded", "load_seconds": SECONDS[each],
        }
        for each in NAMES
    ]  # fmt: skip


def status(state: str = "ready", sentence: str = "", model: str = CODER, **more: Any) -> dict[str, Any]:
    return {
        "model": model, "model_name": NAMES[model], "state": state, "status": sentence or f"{NAMES[model]} answers",
        "progress": None, "ctx_size": WINDOWS[model], "switch": None, **more,
    }  # fmt: skip


def switch(stage: str, progress: float | None = None, left: float | None = None) -> dict[str, Any]:
    return {
        "stage": stage, "model": NEXT, "progress": progress, "seconds_left": left, "who": "llama-local", "since": 0.0
    }  # fmt: skip


def slot(
    busy: bool = True, prompt: int = 0, processed: int = 0, cached: int = 0, decoded: int = 0, model: str = CODER
) -> dict[str, Any]:
    return {
        "model": model, "id": 0, "busy": busy, "prompt": prompt, "processed": processed, "cached": cached,
        "decoded": decoded,
    }  # fmt: skip


def turn(number: int, chosen: str, computed: int, answered: int, total: int) -> list[str]:
    """The lines of llama-server (b11434) about one request. ``total``: tokens in the slot at its end."""
    at, slot = f"[41187] {number}.26.777.214 I slot", f"id  0 | task {number * 100} |"
    return [
        f"4.51.790.969 I srv  proxy_reques: proxying request to model {CODER} on port 41187",
        f"{at} get_availabl: id  0 | task -1 | selected slot by {chosen}",
        f"{at} launch_slot_: {slot} processing task, is_child = 0",
        f"{at} print_timing: {slot} prompt eval time = {computed / 1.18:10.2f} ms / {computed:5} tokens "
        "(    0.85 ms per token,  1180.00 tokens per second)",
        f"{at} print_timing: {slot}        eval time = {answered / 0.0412:10.2f} ms / {answered:5} tokens "
        "(   24.27 ms per token,    41.20 tokens per second)",
        f"{at}      release: {slot} stop processing: n_tokens = {total}, truncated = 0",
    ]


LOG = [
    "3.25.912.410 I srv           run: instance name=qwen2.5-coder-1.5b exited with status 0",
    f"3.25.912.786 I srv          load: spawning server instance with name={CODER} on port 41187",
    f"[41187] 0.00.036.269 I srv    load_model: loading model '/models/{CODER}.gguf'",
    "[41187] 0.00.714.819 W load: control-looking token: 128247 '</s>' was not control-type",
    "[41187] 0.11.819.576 I srv    load_model: initializing, n_slots = 1, n_ctx_slot = 65536, kv_unified = 'false'",
    "[41187] 0.11.854.882 I srv  llama_server: model loaded",
    "[41187] 0.11.854.922 I srv  llama_server: listening on http://127.0.0.1:41187",
    *turn(1, "LRU, t_last = -1", 11620, 312, 11931),
    *turn(2, "LCP similarity, f_sim_best = 0.961 (> 0.100 thold), f_keep = 1.000", 484, 96, 12510),
    *turn(3, "LCP similarity, f_sim_best = 0.983 (> 0.100 thold), f_keep = 0.999", 212, 1204, 13925),
    *turn(4, "LRU, t_last = 1803412", 12418, 41, 12458),
]
SESSIONS = [
    {"workspace": "~/src/shop", "profile": CODER},
    {"workspace": "~/src/compiler", "profile": ""},
]
VERIFY = {
    "ok": True, "totals": "81 checks passed, 4 skipped", "finished": "2026-11-29T20:58:00Z",
    "rows": [{"id": "server.answers", "status": "PASS", "evidence": "it answers", "fix": ""}],
}  # fmt: skip
FAILED_VERIFY = {
    "ok": False, "totals": "1 of 81 checks failed", "finished": "2026-11-29T20:58:00Z",
    "rows": [{"id": "server.way_out", "status": "FAIL", "evidence": "the container reaches 192.0.2.1",
              "fix": "./provision"}],
}  # fmt: skip
REFUSALS = [
    Refusal("2026-11-29T19:40:12.000+00:00", "/home/ada/src/shop", "pypi.org:443 (setting fence_domains)"),
    Refusal(
        "2026-11-29T20:31:55.000+00:00", "/home/ada/src/shop",
        "/home/ada/notes.txt (outside the workspace: claude-local --add-dir /home/ada)",
    ),
]  # fmt: skip


class ScriptedFiles(Files):
    """What the user's files say of the fence and the last verify, without the files. ``home`` has the models'."""

    def __init__(self, home: Path, **told: Any) -> None:
        super().__init__(Paths(home=str(home), model_dir=str(home), bin_dir=str(home)))
        self.fence, self.refusals = told.get("fence", FenceConfig()), told.get("refusals", REFUSALS)
        self.verify = told.get("verify", VERIFY)
        placed = {name: {"name": NAMES[name], "ctx_size": WINDOWS[name], "fit": FITS[name].as_data()} for name in NAMES}
        records = {}
        for name, size in SIZES.items():
            with open(home / f"{name}.gguf", "wb") as file:
                file.truncate(size)
            records[name] = {"model": file.name, "mmproj": None, "files": [file.name]}
        for path, content in (
            (self.paths.profiles, {"default": CODER, "profiles": placed}),
            (self.paths.placements, {"files": {}, "profiles": records, "roots": [str(home)]}),
        ):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(json.dumps(content))

    def read(self) -> None: ...


def gpu_command(folder: Path, lines: tuple[str, ...] = GPUS) -> tuple[str, ...]:
    """A stand-in for nvidia-smi that prints the lines and goes on."""
    text = folder / "gpus"
    text.write_text("".join(f"{line}\n" for line in lines))
    return ("tail", "-n", "+1", "-f", str(text))


@dataclass(frozen=True)
class Scene:
    """``told``: what the scripted manager tells, None: nothing listens. ``keys`` are pressed.
    ``gpus``: the lines of nvidia-smi. ``then``: the slots two seconds later.
    ``files``: what the user's files say (ScriptedFiles)."""

    told: dict[str, Any] | None
    size: tuple[int, int] = (120, 40)
    keys: tuple[str, ...] = ()
    gpus: tuple[str, ...] = GPUS
    host: Host = HOST
    files: dict[str, Any] = field(default_factory=dict)
    then: tuple[dict[str, Any], ...] = ()

    def manager(self) -> ScriptedManager:
        return ScriptedManager(**{"log": list(LOG), **(self.told or {})})


READY = {"status": status(), "models": models(), "sessions": SESSIONS}
NO_GPU = {"gpus": (), "host": Host(0.93, 8, 32 * GIB, 9 * GIB, GIB, True, (0, 0))}

SCENES = {
    "answering": Scene(
        {**READY, "slots": [slot(prompt=13925, processed=212, cached=13713, decoded=14)]},
        then=(slot(prompt=13925, processed=212, cached=13713, decoded=96),),
    ),
    "reading": Scene({**READY, "slots": [slot(prompt=12900, processed=4100, cached=4100)]}),
    "loading": Scene(
        {"status": status("loading", f"{NAMES[CODER]} is loading", progress=0.43), "models": models(state="loading")}
    ),
    "switching": Scene(
        {
            "status": status(
                "switching", f"switching to {NAMES[NEXT]}: loading", progress=0.43, switch=switch("loading", 0.43, 21.0)
            ),
            "models": models(),
            "sessions": SESSIONS,
        }
    ),
    "stopped": Scene(
        {
            "status": status("stopped", "no model is loaded; the next request or `llama-local start` loads one"),
            "models": models(state="unloaded"),
            "sessions": [],
        },
    ),
    "failed": Scene(
        {"status": status("failed", f"{NAMES[CODER]} failed to load"), "models": models(state="unloaded")},
        files={"verify": FAILED_VERIFY},
    ),
    "server-down": Scene(
        {"status": status("down", "nothing listens on http://claude-local-server:8080"), "models": models()}
    ),
    "manager-gone": Scene(None),
    "docker-gone": Scene(None, host=Host(0.02, 16, 64 * GIB, 3 * GIB, 0, False, (0, 0))),
    "no-gpu": Scene(
        {
            "status": status(model=SMALL),
            "models": models(SMALL),
            "sessions": SESSIONS[:1],
            "slots": [slot(prompt=12900, processed=8200, model=SMALL)],
        },
        **NO_GPU,
    ),
    "picker": Scene(READY, keys=("m",)),
    "help": Scene(READY, keys=("question_mark",)),
    "search": Scene({**READY, "slots": [slot(False)]}, keys=("slash", *"eval time", "enter", "f", "l")),
    "narrow": Scene({**READY, "slots": [slot(prompt=12900, processed=4100, cached=4100)]}, size=(80, 50)),
}
