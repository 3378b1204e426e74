"""What is added to the loss beside the comparison with negatives: regularisers and auxiliary tasks, one a file."""
