"""Reconstruction of a head from posed views: 3D Gaussian splats, visual hulls, and meshes that follow normal maps."""
