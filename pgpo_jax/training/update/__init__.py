"""State, gradient accumulation, optimizer and the jitted step."""
