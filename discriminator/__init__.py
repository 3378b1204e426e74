"""The discriminator: the model that is trained, its losses, and the reward that it gives to the generator."""
