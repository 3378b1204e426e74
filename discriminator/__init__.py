"""The judge: the main model, the loss that trains it, and the reward that it gives."""
