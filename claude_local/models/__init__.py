"""Profiles, choosing one, memory, GGUF headers, fetching and placing model files."""
