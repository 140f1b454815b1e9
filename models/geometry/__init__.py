"""Cameras and their files, meshes and renderings of their normals."""
