"""llama-local models: what it lists, what prune deletes, and what prune never deletes."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from claude_local.cli import models
from claude_local.cli.__main__ import main
from claude_local.models import profiles
from claude_local.models.placement_plan import PlacementError
from claude_local.models.stored import Inventory, Stored
from claude_local.paths import Paths
from claude_local.server import presets
from tests.cli.documented import example, lacks
from tests.models.gguf_file import gguf, model
from tests.models.model_server import ModelServer, whole
from tests.models.placement_desk import GOOD, MIB, OTHER, Desk, prepared

SHARED = model(2 * MIB)
USED = model(1 * MIB)
PROJECT = Path(__file__).resolve().parents[2]


class Home(Desk):
    """A desk in a user's home, with llama-local."""

    server: ModelServer

    def llama_local(self, *arguments: str) -> int:
        return main(["models", *arguments])

    def put(self, name: str, content: bytes) -> Path:
        """Want a file, have it placed by a real run, and stop wanting it."""
        self.server.behaviours[f"/{name}"] = whole(content)
        self.want(f"url {self.server.url}/{name}", name=name, content=content)
        self.place()
        self.profiles.pop()
        return self.models / name

    @property
    def paths(self) -> Paths:
        return Paths(home=str(self.folder), model_dir=str(self.models), bin_dir="")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Home:
    prepared(tmp_path, server.url, monkeypatch)
    (tmp_path / "disk").rmdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    result = Home(tmp_path, server.url)
    result.server = server
    result.placements = Path(result.paths.placements)
    return result


def listed(home: Home, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """The files of ``llama-local models --json`` by name."""
    capsys.readouterr()
    assert home.llama_local("--json") == 0
    return {Path(file["path"]).name: file for file in json.loads(capsys.readouterr().out)["files"]}


@pytest.fixture
def full(home: Home) -> Home:
    """Five models: used, orphaned, the user's in model_dir, the user's in a search directory, half downloaded."""
    home.put("sub/old.gguf", OTHER)
    (home.models / "mine.gguf").write_bytes(GOOD)
    (home.disk / "shared.gguf").write_bytes(SHARED)
    home.want(name="shared.gguf", content=SHARED)
    home.want(f"url {home.server.url}/gone", name="half.gguf")
    home.server.behaviours["/gone"] = whole(GOOD, cut=[MIB] + [0] * 99)
    with pytest.raises(PlacementError):
        home.place()
    home.profiles.pop()
    home.server.behaviours["/used"] = whole(USED)
    home.want(f"url {home.server.url}/used", name="used.gguf", content=USED)
    home.place()
    return home


def test_the_list_shows_owner_and_users_of_each_file(full: Home, capsys: pytest.CaptureFixture[str]) -> None:
    files = listed(full, capsys)
    assert lacks(example("models")["files"][0], files["old.gguf"]) == []
    rows = {name: (file["state"], file["placed"], file["used_by"], file["orphaned"]) for name, file in files.items()}
    assert rows == {
        "used.gguf": ("verified", True, ["p1"], False),
        "old.gguf": ("verified", True, [], True),
        "mine.gguf": ("unknown", False, [], False),
        "shared.gguf": ("verified", False, ["p0"], False),
        "half.gguf.part": ("unfinished", True, [], False),
    }
    assert files["old.gguf"]["size"] == len(OTHER) and files["half.gguf.part"]["size"] == MIB
    assert full.llama_local() == 0
    output = capsys.readouterr().out
    line = next(line for line in output.splitlines() if line.startswith("sub/old.gguf"))
    assert "deploy" in line and "orphaned" in line
    assert "you" in next(line for line in output.splitlines() if line.startswith("mine.gguf"))
    assert " free" in output and "llama-local models prune" in output


def test_prune_deletes_only_our_orphaned_files(full: Home, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ["mine.gguf", "used.gguf", "half.gguf.part"]
    before = {name: (full.models / name).stat() for name in kept} | {"shared": (full.disk / "shared.gguf").stat()}
    assert full.llama_local("prune", "--yes") == 0
    assert not (full.models / "sub").exists()
    after = {name: (full.models / name).stat() for name in kept} | {"shared": (full.disk / "shared.gguf").stat()}
    assert {name: (s.st_ino, s.st_mtime_ns, s.st_size) for name, s in after.items()} == {
        name: (s.st_ino, s.st_mtime_ns, s.st_size) for name, s in before.items()
    }
    assert "old.gguf" not in listed(full, capsys)
    assert full.llama_local("prune", "--yes") == 0
    assert "nothing to delete" in capsys.readouterr().out
    # What is left is still known, and what was deleted can be placed again.
    assert full.check()["ok"]
    full.put("sub/old.gguf", OTHER)


def test_prune_deletes_unfinished_downloads_only_with_the_option(full: Home) -> None:
    assert full.llama_local("prune", "--yes", "--unfinished") == 0
    assert sorted(path.name for path in full.models.iterdir()) == [".placing.lock", "mine.gguf", "used.gguf"]


def test_the_table_fits_80_columns() -> None:
    name = "/data/models/Qwen3-Coder-Next-UD-Q5_K_XL-00001-of-00003.gguf"
    rows = (
        Stored(name, 49_000_000_000, "verified", True, ("qwen3-coder-next-ud-q5",), "a" * 64, False),
        Stored("/elsewhere" + name, 49_000_000_000, "unfinished", False, (), None, False),
    )
    text = io.StringIO()
    models.show(Inventory("/data/models", 10**12, rows), Console(width=80, file=text))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "qwen3-coder-next-ud-q5" in text.getvalue() and "unfinished" in text.getvalue(), "only the path is folded"


@pytest.mark.parametrize(
    ("answer", "deleted"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_prune_asks_first(full: Home, answer: str, deleted: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "claude_local.cli", "models", "prune"],
        input=answer, capture_output=True, text=True, cwd=PROJECT, env={**os.environ, "HOME": str(full.folder)},
    )  # fmt: skip
    assert "Delete this file, 3 MB? [y/N]" in done.stdout and "sub/old.gguf" in done.stdout
    assert (full.models / "sub" / "old.gguf").exists() is not deleted
    assert done.returncode == (0 if deleted else 1), done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_lists_the_files_and_deletes_nothing(full: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert full.llama_local("prune", "--dry-run") == 0
    assert "sub/old.gguf  3 MB" in capsys.readouterr().out
    assert full.llama_local("prune", "--dry-run", "--json", "--unfinished") == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(each["path"]).name for each in told["files"]] == ["old.gguf", "half.gguf.part"]
    assert lacks(example("models prune"), told) == []
    assert full.llama_local("prune", "--json") == 2
    assert not told["deleted"] and (full.models / "sub" / "old.gguf").exists()


def test_prune_refuses_while_a_placement_runs(full: Home, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (full.models, full.placements.parent):
        with open(folder / ".placing.lock", "r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert full.llama_local("prune", "--yes") == 1
            assert "another run (process " in capsys.readouterr().err
    assert (full.models / "sub" / "old.gguf").exists()


def test_prune_keeps_a_changed_file(full: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (full.models / "sub" / "old.gguf").write_bytes(GOOD)
    file = listed(full, capsys)["old.gguf"]
    assert (file["state"], file["placed"], file["orphaned"]) == ("changed", False, False)
    assert full.llama_local("prune", "--yes") == 0
    (full.models / "sub" / "old.gguf").unlink()
    (full.models / "sub" / "old.gguf").symlink_to(full.disk / "shared.gguf")
    assert full.llama_local("prune", "--yes") == 0
    assert (full.models / "sub" / "old.gguf").is_symlink()


def test_prune_keeps_a_link_in_place_of_our_file(full: Home) -> None:
    (full.models / "sub" / "old.gguf").rename(full.folder / "moved.gguf")
    (full.models / "sub" / "old.gguf").symlink_to(full.folder / "moved.gguf")
    assert full.llama_local("prune", "--yes") == 0
    assert (full.models / "sub" / "old.gguf").is_symlink()


@pytest.mark.parametrize("around", [False, True], ids=["a search directory now", "around the new one"])
def test_prune_keeps_a_former_model_dir(home: Home, capsys: pytest.CaptureFixture[str], around: bool) -> None:
    path = home.put("old.gguf", OTHER)
    home.disk, home.models = home.models, (home.models if around else home.folder) / "new"
    home.put("other.gguf", GOOD)
    home.place()
    files = listed(home, capsys)
    assert files["old.gguf"]["orphaned"] is False and files["other.gguf"]["orphaned"] is True
    assert home.llama_local("prune", "--yes") == 0
    assert path.exists() and not (home.models / "other.gguf").exists()


def test_prune_keeps_a_file_that_was_replaced_while_it_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.put("old.gguf", OTHER)
    gone = home.put("gone.gguf", SHARED)
    home.place()

    def answer(question: str) -> str:
        path.write_bytes(GOOD)
        gone.unlink()
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    assert home.llama_local("prune") == 1
    assert f"not deleted: {path}" in capsys.readouterr().err
    assert path.read_bytes() == GOOD
    assert list(home.index["files"]) == [str(path)]


def test_prune_keeps_all_parts_of_a_model_in_the_presets(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"sub/m-{number:05}-of-00002.gguf" for number in (1, 2)]
    for number, name in enumerate(names):
        home.put(name, gguf({"split.count": 2, "split.no": number}))
    record = {"model": str(home.models / names[0]), "mmproj": None}
    conf = profiles.parse(f"[big]\nMODEL = {names[0]}\n")
    text = presets.render(
        conf, "big", {"profiles": {"big": record}}, model_dir=str(home.models), search_dirs=[str(home.disk)]
    )
    written = Path(home.paths.presets)
    written.parent.mkdir(parents=True)
    written.write_text(text)
    home.place()
    assert [file["used_by"] for file in listed(home, capsys).values()] == [["presets"], ["presets"]]
    assert home.llama_local("prune", "--yes") == 0
    assert all((home.models / name).exists() for name in names)
    # Nobody can tell what is in use: nothing is deleted.
    written.write_text("what is this\n")
    assert home.llama_local("prune", "--yes") == 1
    assert "cannot be read" in capsys.readouterr().err
    written.unlink()
    assert home.llama_local("prune", "--yes") == 0
    assert not any((home.models / name).exists() for name in names)


def split(home: Home, count: int = 3) -> list[str]:
    """Add a split model whose last part cannot be downloaded; the names of its parts."""
    names = [f"m-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    files = []
    for number, name in enumerate(names):
        content = gguf({"split.count": count, "split.no": number})
        if name != names[-1]:
            home.server.behaviours[f"/{name}"] = whole(content)
        home.want(f"url {home.server.url}/{{name}}", name=name, content=content)
        files += home.profiles.pop()["files"]
    home.profiles.append({"id": "big", "model": names[0], "mmproj": None, "files": files})
    return names


@pytest.mark.parametrize("first", [True, False])
def test_prune_keeps_the_parts_of_an_unfinished_model(
    home: Home, capsys: pytest.CaptureFixture[str], first: bool
) -> None:
    if not first:
        home.put("old.gguf", OTHER)
    names = split(home)
    home.server.behaviours["/other"] = whole(GOOD)
    home.want(f"url {home.server.url}/other", name="other.gguf")
    with pytest.raises(PlacementError, match="HTTP 404"):
        home.place()
    files = listed(home, capsys)
    assert [files[name]["used_by"] for name in (*names[:2], "other.gguf")] == [["being placed"]] * 3
    # What the last whole deploy uses is still in use: the server runs with it.
    assert first or files["old.gguf"]["used_by"] == ["p0"]
    assert home.llama_local("prune", "--yes") == 0
    assert all((home.models / name).exists() for name in (*names[:2], "other.gguf"))
    # The user gives the model up: the next run that reaches its end frees its parts.
    home.profiles.pop(0)
    assert not home.check()["ok"]
    home.place()
    assert home.check()["ok"] and home.index["wanted"] == []
    assert home.llama_local("prune", "--yes") == 0
    assert not any((home.models / name).exists() for name in names)
    assert (home.models / "other.gguf").exists()


def test_prune_keeps_what_a_stopped_deploy_uses_under_another_name(home: Home) -> None:
    path = home.put("old.gguf", GOOD)
    home.put("sub/gone.gguf", OTHER)
    home.place()
    home.want(name="new.gguf", content=GOOD)
    split(home)
    with pytest.raises(PlacementError, match="HTTP 404"):
        home.place()
    assert home.llama_local("prune", "--yes") == 0
    assert path.exists() and not (home.models / "sub").exists()


def test_prune_keeps_a_copy_in_place_of_our_file(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    path = home.put("old.gguf", OTHER)
    home.want(name="old.gguf", content=OTHER)
    path.with_suffix(".copy").write_bytes(OTHER)
    path.with_suffix(".copy").rename(path)
    home.place()
    home.profiles.pop()
    home.place()
    file = listed(home, capsys)["old.gguf"]
    assert (file["state"], file["placed"], file["orphaned"]) == ("verified", False, False)
    assert home.llama_local("prune", "--yes") == 0
    assert path.exists()


def test_before_the_first_deploy_the_fix_is_named(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert home.llama_local() == 1
    assert "nothing was placed yet" in capsys.readouterr().err
    home.placements.parent.mkdir(parents=True)
    home.placements.write_text('{"files": {}, "profiles": {}}')
    assert home.llama_local("prune", "--yes") == 1
    assert "./provision" in capsys.readouterr().err


def test_the_next_deploy_records_the_model_directories(home: Home) -> None:
    """An earlier version's models.json has no directories."""
    home.put("m.gguf", GOOD)
    home.want(name="m.gguf")
    home.place()
    text = {key: value for key, value in home.index.items() if key != "roots"}
    home.placements.write_text(json.dumps(text))
    assert not home.check()["ok"]
    assert "nothing downloaded" in home.place()
    assert home.check()["ok"] and home.index["roots"] == [str(home.models), str(home.disk)]
