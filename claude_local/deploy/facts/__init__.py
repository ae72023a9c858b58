"""pyinfra facts, one module a stage. They only read."""
