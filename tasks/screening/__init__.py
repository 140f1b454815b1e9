"""Screening of heads: calibration of the screen's limits, manual decisions and the review page."""
