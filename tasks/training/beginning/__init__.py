"""What a training begins with: networks in a folder, or a checkpoint."""
