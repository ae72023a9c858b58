"""A machine with Debian 10: the identity and preflight's look are answered, everything else is not."""

# Underscores: pyinfra takes every other list here for a group of hosts.
_identity = ["0", "0", "root", "/root", "x86_64", "debian", "10", "buster", "yes", "no"]
_responses = {"id -un": _identity, "/proc/net/tcp": ["apt yes", "root yes"]}
old = [("@fake/old", {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": _responses})]
