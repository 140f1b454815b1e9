"""Stages and tasks as plain functions. The flows run them with Prefect."""
