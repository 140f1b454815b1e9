"""Trainings as artifacts of the store, each of which begins with the result of the one before."""
