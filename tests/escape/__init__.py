"""The battery: named attempts to get out of the fence, each through Claude Code's own tools, each with its evidence."""
