"""Runs launch.py: Python keeps the modules that it imports compiled, and compiles the program that it is given each time.

That was a tenth of the time which the outer fence adds to a start (benchmarks/fence_startup.py).
"""

import _signal  # type: ignore[import-not-found]
import gc
import sys
from os.path import abspath, dirname

# Ctrl-C while the server gets ready is the end, without Python's words. The launcher sets it back, once it has things to put
# away. Before all else, and not by ``signal``, which takes 3 ms.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))

# Nothing of what a start makes is thrown away: looking for it takes 2 ms. The launcher switches it on again.
gc.disable()

from claude_local.fence import launch  # noqa: E402

if __name__ == "__main__":
    sys.exit(launch.main(sys.argv[1:]))
