"""What a training begins with: networks in a folder, in a checkpoint, or random ones."""
