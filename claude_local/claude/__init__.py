"""Claude Code: versions, installing it, its settings, the wrapper."""
