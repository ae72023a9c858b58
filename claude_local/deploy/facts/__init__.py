"""pyinfra facts of our own, one module a stage. They only read."""
