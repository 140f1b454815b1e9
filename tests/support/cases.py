"""Inputs of kinds that once went wrong, `tests/cases/<name>/`; a README in each says what is wrong with it."""

from pathlib import Path

CASES = Path(__file__).parents[1] / "cases"
