"""The data of a training: which groups a step draws, and how they are read, encoded and prefetched."""
