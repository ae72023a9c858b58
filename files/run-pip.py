"""Run pip with the given arguments, and print a line every ten seconds until it ends.

pip draws its own progress only in a terminal. A thread prints the lines, so nothing outlives pip.

    python run-pip.py install --quiet --require-hashes --requirement requirements.lock
"""

import os
import runpy
import threading
import time


def report() -> None:
    """Print a line every ten seconds. os.write, because pip's main thread may hold the lock of sys.stdout."""
    while True:
        time.sleep(float(os.environ.get("CLAUDE_LOCAL_SAY_SECONDS", "10")))
        os.write(1, b"still fetching packages ...\n")


threading.Thread(target=report, daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
