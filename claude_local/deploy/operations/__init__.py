"""pyinfra operations of our own, one module a stage. Everything else is done with pyinfra's (see tasks/)."""
