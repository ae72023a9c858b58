"""``python -m tests.escape HOME KIND NAME UID GID PASSWORD WAY RESULT [attempt ...]``, in world.py's namespaces."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.escape.lab import Account, Lab, run_battery
from tests.escape.world import furnish


def main(arguments: list[str]) -> None:
    home, kind, name, uid, gid, password, way, result, *only = arguments
    account = Account(kind, name, int(uid), int(gid), password)
    lab = Lab(Path(home), account, way)
    lab.scratch.mkdir()
    lab.scratch.chmod(0o755)
    lab.own(lab.scratch)
    furnish(lab.scratch, account.uid)
    Path(result).write_text(json.dumps(run_battery(lab, only), indent=1))


main(sys.argv[1:])
