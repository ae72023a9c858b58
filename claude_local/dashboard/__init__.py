"""``llama-local dashboard``: what the server and the machine do, live in a terminal. A client of the management API.

``turns``, ``slots``, ``machine`` and ``files`` read; ``picture`` is what they found as plain data; ``panels`` turns it
into text; ``app``, ``log_view`` and ``dialogs`` are textual's side.
"""
