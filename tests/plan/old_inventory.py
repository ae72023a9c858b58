"""A machine with Debian 10: the identity fact is answered, everything else is not."""

identity = "0\n0\nroot\n/root\nx86_64\ndebian\n10\nbuster\nyes\nno"
old = [("@fake/old", {"fake_delay": 0, "fake_delay_jitter": 0, "fake_responses": {"id -un": identity}})]
