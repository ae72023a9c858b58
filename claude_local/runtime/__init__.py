"""What runs on the workstation itself, in the runtime's venv. Imports no pyinfra."""
