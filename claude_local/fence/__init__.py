"""The fence around a session; README.md describes it. No pyinfra; the standard library only."""
