"""Record what Claude Code sends and keep its shape: ``python -m tests.chat.record_shapes``.

Run it for a new Claude Code. It prints what changed since shapes.json was written, and rewrites the file. With
``--check`` it only prints, and exits with status 1 when something changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.chat import recorder
from tests.chat.shape import KEPT, differences, shape


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="record_shapes", description="Record the shape of Claude Code's requests.")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 when the shape has changed")
    options = parser.parse_args(arguments)
    try:
        binary = recorder.claude_binary()
        with tempfile.TemporaryDirectory(prefix="record-shapes-") as folder:
            recorded = shape(recorder.version(binary), recorder.record(Path(folder), binary))
    except recorder.RecordingError as error:
        print(f"record_shapes: {error}", file=sys.stderr)
        return 2
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    changed = differences(kept, recorded)
    print("\n".join(changed) or f"nothing has changed (Claude Code {recorded['claude_code']})")
    if options.check:
        return 1 if changed else 0
    KEPT.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
