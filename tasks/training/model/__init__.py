"""What a training trains: its networks, the prompts that they read, and the precision of their layers."""
