"""Identity of a face: detection, alignment, ArcFace embeddings and the prompt encoder."""
