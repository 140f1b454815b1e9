"""Scores that detect defective heads, and the calibration of their limits."""
