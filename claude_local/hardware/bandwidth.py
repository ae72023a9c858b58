"""Measure how fast all cores together read main memory, in about a second. Prints bytes a second.

    python3 -I -c "$(cat bandwidth.py)"

Runs on the workstation before anything is installed there, so it needs the standard library only. Each process looks
for a byte that is not there (memchr reads as fast as the memory allows) in more memory than a cache holds.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier

# Bytes that each process goes through again and again, the number of processes at most, and how long they read.
SIZE = 128 << 20
PROCESSES = 8
SECONDS = 0.6


def _read(barrier: Barrier, results: multiprocessing.SimpleQueue[float]) -> None:
    data = bytearray(b"\1") * SIZE
    barrier.wait()
    until, passes = time.monotonic() + SECONDS, 0
    began = time.process_time()  # what other programs take of the cores does not count
    while time.monotonic() < until:
        data.find(0)
        passes += 1
    results.put(passes * SIZE / (time.process_time() - began))


def measure() -> int:
    """Bytes a second."""
    fork = multiprocessing.get_context("fork")
    count = max(1, min(PROCESSES, len(os.sched_getaffinity(0))))
    barrier, results = fork.Barrier(count), fork.SimpleQueue()
    for process in [fork.Process(target=_read, args=(barrier, results)) for _ in range(count)]:
        process.start()
    return round(sum(results.get() for _ in range(count)))


if __name__ == "__main__":
    print(measure())
