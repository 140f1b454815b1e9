"""Evaluation of a trained model on held-out heads, compared with baselines."""
