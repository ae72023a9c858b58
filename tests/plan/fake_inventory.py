"""One workstation that nobody has: pyinfra's @fake answers every command with nothing, but preflight finds apt and
root."""

_data = {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": {"/proc/net/tcp": ["apt yes", "root yes"]}}
bare = [("@fake/bare", _data)]
