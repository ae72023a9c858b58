"""Verify a workstation: one row a check, PASS / FAIL / SKIP with its evidence, and the command that repairs it.

It proves things on the real machine and leaves nothing behind but its report. ``checks`` holds what a check is and runs
them, ``catalogue`` lists them in order, ``report`` shows them; every other module is one subject.
"""
