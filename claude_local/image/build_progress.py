"""Run ``docker build --progress=plain`` and print a readable part of its log.

``python -m claude_local.image.build_progress -- COMMAND ...`` prints each step when it begins and ends, and at most one
line of a step's output every two seconds. When the command fails, its last lines follow in full. The exit status is the
command's.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

THROTTLE_SECONDS = 2.0
TAIL_LINES = 30

# "#8 122.6 [52/208] Building ...": step, seconds into the step, text.
_OUTPUT = re.compile(r"^#\d+ \d+\.\d+ ?(?P<text>.*)$")
# "#8 [builder 3/3] RUN ..." begins a step, "#8 DONE 12.3s" and "#8 CACHED" end it. The rest is internal to BuildKit.
_STEP = re.compile(r"^#\d+ (?P<text>\[(?!internal)[^\]]+\].*|DONE [\d.]+s|CACHED|ERROR.*|CANCELED)$")
# A compiler's last line of progress.
_LAST = re.compile(r"^\[(\d+)/\1\]")
# ccache's statistics after the build (the second such line is about its storage).
_MISSES = re.compile(r"^Misses: +(\d+) */ *(\d+)")


def readable(lines: Iterable[str], clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """The lines of a plain BuildKit log that are worth printing, shortened. ``clock`` returns seconds."""
    printed, in_step, counted = -THROTTLE_SECONDS, False, False
    for line in lines:
        if step := _STEP.match(line):
            text = step["text"]
            if text.startswith("DONE"):
                seconds = float(text[5:-1])
                if in_step and seconds >= 1:
                    yield f"  done in {seconds:.0f} s"
                in_step = False
            elif text.startswith("["):
                yield re.sub(r"\s+", " ", text)[:110]
                in_step = True
            elif text != "CACHED":
                yield text[:200]
        elif output := _OUTPUT.match(line):
            text = output["text"].strip()
            if (misses := _MISSES.match(text)) and not counted:
                counted = True
                yield f"  compiled {misses[1]} of {misses[2]} files, the others were in the compiler cache"
            elif text and (clock() - printed >= THROTTLE_SECONDS or _LAST.match(text)):
                printed = clock()
                yield f"  {text[:110]}"


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command:
        print("build_progress: no command", file=sys.stderr)
        return 2
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def remember(lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            tail.append(line.rstrip("\n"))
            yield tail[-1]

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as build:
        assert build.stdout is not None
        try:
            for line in readable(remember(build.stdout)):
                print(line, flush=True)
        except KeyboardInterrupt:
            build.terminate()
            return 130
    if build.returncode != 0:
        print("the build failed; its last lines:", *tail, sep="\n", flush=True)
    return build.returncode


if __name__ == "__main__":
    sys.exit(main())
