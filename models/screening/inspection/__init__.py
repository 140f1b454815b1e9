"""Inspection: a network that marks what clean previews do not have, and the random anomalies that it learns from."""
