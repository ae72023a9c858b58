"""pyinfra operations, one module a stage. They look at one fact, then say noop or yield commands."""
