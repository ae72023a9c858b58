"""Which ports of IDEs a session gets."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from claude_local.fence.ide import ide_ports
from tests.fence.world import write


def lock(directory: Path, name: str, content: object) -> None:
    write(directory / name, content if isinstance(content, str) else json.dumps(content))


def test_the_ports_of_running_ides_and_of_this_terminals_are_returned(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    lock(tmp_path, "1111.lock", {"pid": os.getpid()})
    lock(tmp_path, "2222.lock", {"pid": ended.pid})
    lock(tmp_path, "3333.lock", {"pid": 1})
    assert ide_ports([str(tmp_path)], None) == [1111, 3333]
    assert ide_ports([str(tmp_path), str(tmp_path), "/nowhere"], "2222") == [1111, 2222, 3333]


def test_a_terminal_without_a_lock_file_opens_no_port(tmp_path: Path) -> None:
    assert ide_ports([str(tmp_path)], "22") == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"pid": "x"}', '{"pid": null}', '{"pid": 0}', '{"pid": -1}', '{"pid": true}',
     '{"pid": 1.5}',
     '{"pid": 99999999999999999999}', "[" * 100_000],
)  # fmt: skip
def test_nonsense_in_a_lock_file_opens_no_port(tmp_path: Path, content: str) -> None:
    lock(tmp_path, "1111.lock", content)
    assert ide_ports([str(tmp_path)], None) == []


@pytest.mark.parametrize(
    "name", ["0.lock", "65536.lock", "x.lock", "22", "22.lock.bak", "-1.lock", "²².lock", "+22.lock"]
)
def test_a_name_that_is_no_port_opens_none(tmp_path: Path, name: str) -> None:
    lock(tmp_path, name, {"pid": os.getpid()})
    assert ide_ports([str(tmp_path)], name.partition(".")[0]) == []
