"""A machine with Debian 10: it answers the facts of the identity and of preflight, and no other."""

# Underscores: pyinfra takes every other list here for a group of hosts.
_user = ["uid 0", "gid 0", "user root", "home /root", "arch x86_64", "userland amd64"]
_identity = [*_user, "ID debian", "VERSION_ID 10", "VERSION_CODENAME buster"]
_responses = {"id -un": _identity, "/proc/net/tcp": ["apt yes", "root yes"]}
old = [("@fake/old", {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": _responses})]
