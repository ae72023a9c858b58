"""llama-local, the command. ``commands.py`` names the subcommands; each is a click command in a module by subject."""
