"""Cards of datasets and models in the format of the Hugging Face hub, from facts that the artifacts record.

What is not recorded is written as unknown; nothing is assumed of it.
"""
