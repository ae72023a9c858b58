"""Run a ``docker build --progress=plain`` and show what a person wants to see of it.

``python -m claude_local.image.build_progress -- COMMAND ...`` ends with the command's exit status. It prints every step
that begins or ends, and of what a step prints at most one line in two seconds (compilers' ``[123/208]`` lines among them);
when the command fails, its last lines follow in full.
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
_OUTPUT = re.compile(r"^#\d+ (?P<seconds>\d+\.\d+) ?(?P<text>.*)$")
# "#8 [builder 3/3] RUN ..." begins a step, "#8 DONE 12.3s" and "#8 CACHED" end it; the rest is BuildKit's own business.
_STEP = re.compile(r"^#\d+ (?P<text>\[(?!internal)[^\]]+\].*|DONE [\d.]+s|CACHED|ERROR.*|CANCELED)$")


def readable(lines: Iterable[str], clock: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """The lines of a plain BuildKit log that are worth showing, shortened; ``clock`` returns seconds."""
    shown, begun = -THROTTLE_SECONDS, False
    for line in lines:
        if step := _STEP.match(line):
            text = step["text"]
            if text.startswith("DONE"):
                if begun and float(text[5:-1]) >= 1:
                    yield f"  done in {float(text[5:-1]):.0f} s"
                begun = False
            elif text.startswith("["):
                yield re.sub(r"\s+", " ", text)[:110]
                begun = True
            elif text != "CACHED":
                yield text[:200]
        elif output := _OUTPUT.match(line):
            text = output["text"].strip()
            if text and (clock() - shown >= THROTTLE_SECONDS or _last(text)):
                shown = clock()
                yield f"  {text[:110]}"


def _last(text: str) -> bool:
    """Whether a compiler's progress line is the last one: ``[208/208]``."""
    match = re.match(r"^\[(\d+)/(\d+)\]", text)
    return match is not None and match[1] == match[2]


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        print("build_progress: no command", file=sys.stderr)
        return 2
    tail: deque[str] = deque(maxlen=TAIL_LINES)

    def remembered(lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            tail.append(line.rstrip("\n"))
            yield tail[-1]

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as build:
        assert build.stdout is not None
        try:
            for line in readable(remembered(build.stdout)):
                print(line, flush=True)
        except KeyboardInterrupt:
            build.terminate()
            return 130
    if build.returncode != 0:
        print("the build failed; its last lines:", *tail, sep="\n", flush=True)
    return build.returncode


if __name__ == "__main__":
    sys.exit(main())
