"""The optimiser of a training, its learning rate, and the averages of the weights."""
