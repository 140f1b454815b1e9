"""What is observed of a training while it runs: its losses and metrics, held-out losses, and trackers of them."""
