"""What the fence around a session lets through and what not. Pure: no pyinfra, no I/O; stdlib only, it runs at each start."""
