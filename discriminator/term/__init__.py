"""Terms added to the loss: regularisers and auxiliary tasks, one in each file."""
