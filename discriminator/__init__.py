"""The discriminator: the KGE model that is trained, its losses, and the reward for the generator."""
