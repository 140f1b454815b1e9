"""Prefect flows and deployments, profiles and the command line. Nothing in this folder computes."""
