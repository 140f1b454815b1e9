"""Reconstruction of a head from posed views: where the views come from, what is made of them, and the files."""
