"""The graded tasks can be solved, are not solved from the start, and a fault of ours is not taken for the model's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from claude_local.bench.sessions import Session, graded, missing, prepare
from claude_local.bench.tasks import TASKS, Task
from tests.server.example_words import TELLING

SOLVED = {
    "pins.csv": "name,colour\nAda,teal\n",
    "temperature.py": "def to_fahrenheit(celsius):\n    return celsius * 9 / 5 + 32\n",
    "client.cfg": "[client]\nretry_limit = 12\ntimeout = 9\n",
    "shop.py": "DISCOUNT = 0.15\n\n\ndef price(full):\n    return full * (1 - DISCOUNT)\n",
    "shapes.py": 'def area(width, height):\n    """Return the area."""\n    return width * height\n',
    "atlas.py": "def read_map(path):\n    return path.read_text()\n",
    "main.py": "from atlas import read_map\n\nprint(read_map(HOME))\n",
    "room.py": "SEAT_LIMIT = 48\n\n\ndef free(taken):\n    return SEAT_LIMIT - taken\n",
    "booking.py": "from room import SEAT_LIMIT\n\nassert SEAT_LIMIT > 0\n",
    "total.py": "def total(prices):\n    return sum(prices)\n",
    "leap.py": "def is_leap(year):\n    return year % 4 == 0 and year % 100 != 0 or year % 400 == 0\n",
    "archive.sh": '#!/bin/sh\ntar -czf "photos.tar.gz" photos\n',
    "sorted.txt": "Abebe\nMora\nQuinn\n",
}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.prompt)
def test_a_task_has_a_check_that_only_its_solution_passes(task: Task, tmp_path: Path) -> None:
    prepare(task, tmp_path)
    assert missing(task, tmp_path, task.prompt), "solved before the model has done anything"
    for name in task.leaves:
        if name in SOLVED:
            (tmp_path / name).write_text(SOLVED[name])
    answer = " ".join(words.split("|")[-1] for words in task.answer)
    assert not missing(task, tmp_path, answer)
    assert not task.never or missing(task, tmp_path, " ".join((answer, *task.never)))


def test_a_link_to_a_file_that_the_fence_hides_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a secret")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "pins.csv").symlink_to("../token")
    task = next(task for task in TASKS if "pins.csv" in task.leaves)
    assert missing(task, workspace, "") == "pins.csv does not exist"


def test_half_of_the_tasks_are_held_out_and_none_is_an_example_of_the_template() -> None:
    assert [task.held_out for task in TASKS].count(True) == [task.held_out for task in TASKS].count(False) == 10
    texts = " ".join(text for task in TASKS for text in (task.prompt, *task.files, *task.files.values()))
    assert not TELLING & set(re.findall(r"[\w./*]+", texts.lower()))


def result(text: str) -> dict[str, Any]:
    usage = {"input_tokens": 300, "cache_read_input_tokens": 3000, "output_tokens": 20}
    return {"type": "result", "subtype": "success", "result": text, "usage": usage}


def says(text: str) -> dict[str, Any]:
    return {"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}}


RETRY = {"type": "system", "subtype": "api_retry", "attempt": 1, "error_status": 500, "error": "server_error"}
CALL = '```json\n{"name": "Read", "arguments": {"file_path": "a"}}\n```'


@pytest.mark.parametrize(
    ("status", "events", "fault"),
    [
        (0, [says("fine"), result("fine")], ""),
        (0, [says('{"name": "heron", "version": "1"}'), result("fine")], ""),
        (1, [{**result(""), "subtype": "error_max_turns"}], ""),
        (0, [RETRY, RETRY, result("fine")], "requests sent again: 2; server_error"),
        (1, [result("API Error: 500 does not match")], "API Error: 500 does not match"),
        (0, [says(CALL), result("done")], "a tool call came as text"),
        (None, [says("for ever")], "no end after 300 s"),
        (2, [], "no result, exit status 2: no server"),
    ],
)
def test_what_stands_in_the_way_is_a_fault_whatever_the_model_did(
    status: int | None, events: list[dict[str, Any]], fault: str
) -> None:
    assert Session(status, "no server\n", 300.0, events).fault == fault


def test_a_task_runs_in_a_workspace_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    command = tmp_path / "claude-local"
    used = {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "1", "name": "Edit"}]}}
    failed = {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "1", "is_error": True}]}}
    events = "\n".join(map(json.dumps, (used, failed, result("I changed it."))))
    checks = "sed -i s/3/12/ client.cfg\npwd >>../seen\nshift 9\n[ $1 = --no-session-persistence ]"
    command.write_text(f"#!/bin/sh\nset -e\n{checks}\ncat <<'END'\n{events}\nEND\n")
    command.chmod(0o755)
    task = next(task for task in TASKS if "client.cfg" in task.files)
    told = graded(task, [str(command)])
    assert (told["problem"], told["fault"], told["calls"]) == ("", "", ["Edit (error)"])
    assert (told["read"], told["cached"], told["written"]) == (300, 3000, 20)
    other = graded(TASKS[0], [str(command)])
    assert other["fault"].startswith("no result, exit status 2"), "sed found no client.cfg"
    seen = (tmp_path / "seen").read_text().split()
    assert seen and not any(Path(each).exists() for each in seen)
