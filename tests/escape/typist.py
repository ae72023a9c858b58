"""The shell of the terminal that a session runs in: ``python3 typist.py REPORT COMMAND...``; standard library only.

Runs COMMAND, then writes to REPORT what it finds typed into its terminal: nobody types there, so it was pushed in.
"""

import os
import select
import subprocess
import sys

status = subprocess.call(sys.argv[2:], stdin=subprocess.DEVNULL)
typed = b""
while select.select([0], [], [], 0.3)[0] and (piece := os.read(0, 1000)):
    typed += piece
with open(sys.argv[1], "ab") as report:
    report.write(typed)
sys.exit(status)
