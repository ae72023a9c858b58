"""llama-server: presets, flags, the container, waiting for it."""
