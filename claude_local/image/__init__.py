"""The llama-server image: sources, build arguments, tags, the build."""
