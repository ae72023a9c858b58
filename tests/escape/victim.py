"""A process outside the fence: ``python3 victim.py MARKER SECRET REPORT [SysV key]``; standard library only.

It keeps SECRET in a buffer, writes ``{"address": ...}`` (and the SysV segment's number) to REPORT and sleeps.
"""

import ctypes
import json
import os
import sys
import time

secret = ctypes.create_string_buffer(sys.argv[2].encode(), 64)
report = {"pid": os.getpid(), "address": ctypes.addressof(secret)}
if len(sys.argv) > 4:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(int(sys.argv[4]), 4096, 0o1600)
    report["segment"] = libc.shmat(segment, None, 0)
    ctypes.memmove(report["segment"], b"untouched", 9)
with open(sys.argv[3] + ".new", "w") as file:
    json.dump(report, file)
os.rename(sys.argv[3] + ".new", sys.argv[3])
time.sleep(3600)
