"""llama-local: one module for each subcommand, each with ``register(subparsers)``."""
