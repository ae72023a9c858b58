"""The workstations. `pyinfra inventory.py deploy.py` sets up all of them, `--limit NAME` one."""

workstations = [
    "@local",
    # Over ssh, as a user with sudo (any setting of group_data/all.py can be given for one machine):
    # ("gpu-box.example", {"ssh_user": "me", "ssh_key": "~/.ssh/id_ed25519", "model_dir": "/data/models"}),
]
