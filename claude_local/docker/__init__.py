"""Docker: command lines, packages, the NVIDIA runtime."""
