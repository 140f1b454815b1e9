"""Networks, samplers, cameras, renderers, metrics and scores. Nothing here reads profiles or stores artifacts."""
