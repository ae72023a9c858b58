"""A docker build's log becomes readable, and is complete where it fails."""

import sys

import pytest

from claude_local.image.build_progress import main, readable

LOG = """#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s
#5 [builder 2/3] RUN apt-get   update
#5 0.4 Get:1 a mirror
#5 0.5 Get:2 a mirror
#5 DONE 3.2s
#8 [builder 3/3] RUN ninja
#8 1.0 [1/3] Building a
#8 1.1 [2/3] Building b
#8 1.2 [3/3] Linking llama-server
#8 69.0   Hits:            207 / 208 (99.52%)
#8 69.0   Misses:            1 / 208 ( 0.48%)
#8 69.0   Misses:            2 / 416 ( 0.48%)
#8 DONE 70.0s
#9 ERROR: failed to solve""".splitlines()


def test_steps_are_printed_and_their_output_is_throttled() -> None:
    assert list(readable(LOG, clock=lambda: 0.0)) == [
        "[builder 2/3] RUN apt-get update",
        "  Get:1 a mirror",
        "  done in 3 s",
        "[builder 3/3] RUN ninja",
        "  [3/3] Linking llama-server",
        "  compiled 1 of 208 files, the others were in the compiler cache",
        "  done in 70 s",
        "ERROR: failed to solve",
    ]


def test_a_slow_build_prints_every_line() -> None:
    times = iter(range(0, 1000, 5))
    assert sum(" Building " in line for line in readable(LOG, clock=lambda: float(next(times)))) == 2


def test_the_exit_status_is_the_commands_and_a_failure_prints_the_last_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:
    script = "print('#1 0.1 one'); print('#1 0.2 two: error: no such header'); raise SystemExit(3)"
    assert main(["--", sys.executable, "-c", script]) == 3
    assert "two: error: no such header" in capfd.readouterr().out
    assert main(["--", sys.executable, "-c", "print('#1 0.1 one')"]) == 0
    assert "failed" not in capfd.readouterr().out
    assert main([]) == 2
