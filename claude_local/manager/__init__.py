"""The management API on 127.0.0.1:8081: which model answers, changing it, and what the server does."""
