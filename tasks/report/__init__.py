"""The report of a run: one self-contained HTML file with its heads, training curves, metrics and provenance."""
