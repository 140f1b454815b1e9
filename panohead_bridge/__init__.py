"""Generators of heads: the protocol, the registry, the procedural generator and the bridge to PanoHead."""
