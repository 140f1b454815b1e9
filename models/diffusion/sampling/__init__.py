"""Sampling: the EDM sampler, guidance, groups of views with anchors, and normals of photos and views."""
