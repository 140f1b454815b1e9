"""The ablation: the model and variants of it that each lack one condition, trained alike and compared on heads."""
