"""Verify a workstation: one row a check, PASS / FAIL / SKIP with its evidence, and the command that fixes it.

It tries things on the real machine and leaves nothing behind but its report. ``checks`` says what a check is and runs
them, ``catalogue`` lists them in order, ``report`` shows them. The ``*_rows`` modules hold the checks by subject, the
rest is what they use: sessions of the real Claude Code, a scripted backend, a terminal, a record of network peers.
"""
