"""Storage of artifacts, datasets, checkpoints and weights, on disk and in S3; records and errors of all layers."""
