"""External weights: inspection, verification, and stubs of random weights in the published formats."""
