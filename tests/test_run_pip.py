"""Our pip reaches the caller's indexes, and no other setting of the caller changes what it does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from claude_local import run_pip

ROOT = Path(__file__).resolve().parents[1]
INDEX = "https://mirror.invalid/simple"


def environment(folder: Path, conf: str, command: str = "install", **caller: str) -> dict[str, str]:
    """What the real pip would get from a user with this pip.conf and these variables."""
    home = folder / "home"
    (home / ".config" / "pip").mkdir(parents=True)
    (home / ".config" / "pip" / "pip.conf").write_text(conf)
    caller = {"HOME": str(home), "PATH": os.environ["PATH"], "XDG_CONFIG_DIRS": str(folder), **caller}
    return run_pip.environment(caller, command)


@pytest.mark.parametrize("section", ["global", "install"])
def test_a_users_pip_conf_gives_the_index_and_nothing_else(tmp_path: Path, section: str) -> None:
    conf = f"[{section}]\nindex-url = {INDEX}\nuser = true\ntarget = /elsewhere\nno-deps = yes\nquiet = 2\n"
    conf += "extra-index-url =\n    https://one.invalid/simple\n    https://two.invalid/simple\n"
    own = environment(tmp_path, conf)
    assert own["PIP_INDEX_URL"] == INDEX
    assert own["PIP_EXTRA_INDEX_URL"].split() == ["https://one.invalid/simple", "https://two.invalid/simple"]
    assert own["PIP_CONFIG_FILE"] == os.devnull
    assert not {"PIP_USER", "PIP_TARGET", "PIP_NO_DEPS", "PIP_QUIET"} & set(own)


def test_a_commands_section_beats_global_and_a_variable_beats_both(tmp_path: Path) -> None:
    conf = f"[global]\nindex-url = https://other.invalid/\nproxy = http://a\n[download]\nindex-url = {INDEX}\n"
    own = environment(tmp_path, conf, "download", PIP_PROXY="http://b")
    assert (own["PIP_INDEX_URL"], own["PIP_PROXY"]) == (INDEX, "http://b")


def test_a_file_that_pip_cannot_read_is_left_for_pip_to_name(tmp_path: Path) -> None:
    assert "PIP_CONFIG_FILE" not in environment(tmp_path, "no section\n")


NETWORK = {"PIP_INDEX_URL": INDEX, "PIP_CERT": "/c.pem", "https_proxy": "http://p:1", "PIP_TRUSTED_HOST": "m"}
FOREIGN = {
    "PIP_USER": "1", "PIP_TARGET": "/x", "PIP_PREFIX": "/x", "PIP_REQUIRE_VIRTUALENV": "1", "PIP_NO_DEPS": "1",
    "PIP_CONSTRAINT": "/x", "PIP_DRY_RUN": "1", "PYTHONSTARTUP": "/x", "PYTHONUSERBASE": "/x",
}  # fmt: skip


def test_a_stand_in_pip_gets_only_the_way_to_the_index(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "pip").mkdir()
    (packages / "pip" / "__main__.py").write_text(
        "import json, os, sys\nif 'config' not in sys.argv:\n    import packaging\n"
        "    print(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    )
    (packages / "packaging.py").write_text("")
    (tmp_path / "packaging.py").write_text("raise RuntimeError('an old packaging')\n")
    python = tmp_path / "venv" / "bin" / "python"
    argv = [python, "-I", *run_pip.argv("install", "--quiet")[2:]]
    caller = {**NETWORK, **FOREIGN, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(argv, env=caller, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    arguments, own = json.loads(done.stdout)
    assert arguments == ["install", "--quiet"]
    assert {name: own.get(name) for name in NETWORK} == NETWORK
    assert not set(FOREIGN) & set(own) and "PYTHONPATH" not in own


def test_the_runtimes_python_is_always_isolated() -> None:
    """PYTHONPATH can hold an old copy of a package that the runtime uses."""
    for path in [*(ROOT / "claude_local" / "deploy").rglob("*.py"), *(ROOT / "templates").iterdir()]:
        for line in path.read_text().splitlines():
            if "``" not in line and re.search(r"-m[\", ]+claude_local\b", line):
                assert re.search(r"-I\b", line), f"{path}: {line}"


def test_nothing_else_of_ours_starts_pip() -> None:
    for path in [ROOT / "provision", *(ROOT / "claude_local").rglob("*.py"), *(ROOT / "tasks").glob("*.py")]:
        if path.name != "run_pip.py":
            assert not re.search(r"-m[\", ]+pip\b|bin/pip\b", path.read_text()), path
