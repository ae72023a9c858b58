"""What a machine has, and which image variant it gets."""
