"""A rehearsal of a profile: a few heads and one training step, with time and memory extrapolated to the full run."""
