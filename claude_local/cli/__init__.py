"""llama-local, the command for people: one module a subcommand, each with ``register(subparsers)``."""
