"""Datasets of finished heads: publishing, repair, estimates of a build, and the lineage of artifacts."""
