"""The package behind the tasks: pure knowledge, pyinfra facts and operations, and what runs on the workstation."""
