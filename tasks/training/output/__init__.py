"""What a training writes: checkpoints while it runs, and its result."""
