"""Operations as pyinfra runs them, on this machine: for those that work in a temporary directory."""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path
from typing import Any

from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.operation import add_op
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage


def runtime_python(folder: Path) -> str:
    """A Python that imports this package with ``-I``, as the runtime's does."""
    venv.create(folder / "runtime", symlinks=True)
    (packages,) = (folder / "runtime" / "lib").glob("python*/site-packages")
    root = Path(__file__).resolve().parents[2]
    (packages / "claude_local.pth").write_text(f"{root}\n{sysconfig.get_path('purelib')}\n")
    return str(folder / "runtime" / "bin" / "python")


def apply(operation: Any, **arguments: Any) -> bool:
    """Whether the operation changed something. Raises PyinfraError when it failed."""
    state = State(Inventory((["@local"], {})), Config())
    state.set_stage(StateStage.Connect)
    connect_all(state)
    try:
        state.set_stage(StateStage.Prepare)
        (meta,) = add_op(state, operation, **arguments).values()
        state.set_stage(StateStage.Execute)
        run_ops(state)
        return bool(meta.did_change())
    finally:
        disconnect_all(state)


def changes(operation: Any, **arguments: Any) -> tuple[bool, bool]:
    """The results of applying it twice."""
    return apply(operation, **arguments), apply(operation, **arguments)
