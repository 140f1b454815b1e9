"""Whether a new model replaces the promoted one: configuration, comparison and model card."""
