"""What holds for every command of every run. pyinfra reads this file before the inventory."""

import os

from pyinfra import config

from claude_local.deploy import limit, signals

# Facts and operations read what programs print, so programs print it in English. Not C.UTF-8: LANGUAGE overrides that.
# The second line passes it on to the workstation's commands, also under sudo and over ssh.
os.environ["LC_ALL"] = "C"
config.INHERIT_ENV = ["LC_ALL"]

signals.end_all_on_signal()
limit.refuse_no_machine()
