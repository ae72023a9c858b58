"""How fast a model runs on this machine: measuring it, and comparing with the last time."""
