"""The fence without the rest of claude-local, as a program: ``python -I fence_alone.py --config FILE ... -- CLAUDE
ARGUMENTS``."""

import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    # As claude_local/claude/start.py does before the fence.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.insert(0, str(Path(__file__).parents[2]))

from claude_local.fence.launch import launch
from claude_local.fence.options import Options, parse_arguments

SETTINGS = {"sandbox": {"enabled": True}}


def main(argv: list[str]) -> int:
    """Run the launcher with the options ``argv``; its exit status."""
    return launch(parse_arguments(argv, Options), SETTINGS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
