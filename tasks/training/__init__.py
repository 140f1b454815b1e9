"""Training: initial networks, batches, the loop and its state."""
